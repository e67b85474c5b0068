//! Wakes the thread that serves a client when its queue has something: the library's own waiting does
//! not tell where a batch ends. Never reads the queue.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr;
use std::thread::{self, Thread};

use rdkafka::bindings as native;
use rdkafka::producer::{Producer, ProducerContext};

/// While it lives, the thread that made it is unparked whenever the producer's queue gets its first event.
pub(super) struct Wake<'a> {
    queue: *mut native::rd_kafka_queue_t,
    /// What the library's callback points to.
    _thread: Box<Thread>,
    _producer: PhantomData<&'a ()>,
}

impl<'a> Wake<'a> {
    pub(super) fn new<C: ProducerContext>(producer: &'a impl Producer<C>) -> Self {
        let thread = Box::new(thread::current());
        let opaque = ptr::from_ref::<Thread>(&thread).cast_mut().cast::<c_void>();
        // SAFETY: the client outlives this (PhantomData), and `opaque` is owned by this, which takes the
        // callback away again before it goes.
        let queue = unsafe {
            let queue = native::rd_kafka_queue_get_main(producer.client().native_ptr());
            native::rd_kafka_queue_cb_event_enable(queue, Some(unpark), opaque);
            queue
        };
        Self { queue, _thread: thread, _producer: PhantomData }
    }
}

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        // SAFETY: the queue is this one's own handle, and is not used after. Taking the callback away
        // waits for one that runs, as both hold the queue's lock.
        unsafe {
            native::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            native::rd_kafka_queue_destroy(self.queue);
        }
    }
}

unsafe extern "C" fn unpark(_: *mut native::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `opaque` is the thread that `Wake` owns for as long as the callback is set.
    let thread = unsafe { &*opaque.cast::<Thread>() };
    thread.unpark();
}
