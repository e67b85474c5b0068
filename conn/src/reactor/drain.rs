//! Going away: in good order when the node drains, at once when its lease is lost. Both in steps, so that
//! the other links do not wait.

use proto::close::Close;
use tokio::sync::oneshot;

use super::Reactor;

/// Slots of one step.
const STEP: u32 = 1_024;

/// A walk through all links.
#[derive(Debug)]
pub(super) struct Sweep {
    from: u32,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// Tell every device to go elsewhere.
    GoAway,
    /// Close every link whose sends are acknowledged.
    Leave,
    /// Close every link now.
    Close(Close),
    /// Close every link of the old incarnation, then live under this one.
    Reincarnate(u64),
}

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    done: Option<oneshot::Sender<()>>,
    /// When devices that are still here are closed, in ms.
    leave_ms: u64,
    /// When it ends, whatever waits, in ms.
    end_ms: u64,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Telling,
    Leaving,
    Closing,
}

impl Reactor {
    /// The node's incarnation; 0 means that it has none: its lease is lost.
    pub(super) fn new_incarnation(&mut self, incarnation: u64) {
        self.rules.incarnation = 0;
        self.sweep = Some(Sweep { from: 0, what: What::Reincarnate(incarnation) });
    }

    /// Whether links of an old incarnation are being closed.
    pub(super) fn is_reincarnating(&self) -> bool {
        self.sweep.as_ref().is_some_and(|sweep| matches!(sweep.what, What::Reincarnate(_)))
    }

    pub(super) fn begin_drain(&mut self, done: oneshot::Sender<()>) {
        let config = &self.parts.config;
        let now_ms = self.now.ms;
        self.drain = Some(Drain {
            done: Some(done),
            leave_ms: now_ms + u64::from(config.drain_within_ms),
            end_ms: now_ms + config.drain_timeout_ms,
            phase: Phase::Telling,
        });
        self.close_listener();
        self.sweep = Some(Sweep { from: 0, what: What::GoAway });
    }

    pub(super) fn go_on_sweeping(&mut self) {
        let Some(Sweep { from, what }) = self.sweep.take() else { return };
        let slots = u32::try_from(self.table.slots()).unwrap_or(u32::MAX);
        let end = from.saturating_add(STEP).min(slots);
        for slot in from..end {
            self.visit(slot, what);
        }
        if end < slots {
            self.sweep = Some(Sweep { from: end, what });
        } else if let What::Reincarnate(incarnation) = what {
            self.rules.incarnation = incarnation;
        }
    }

    fn visit(&mut self, slot: u32, what: What) {
        let within_ms = self.parts.config.drain_within_ms;
        let Some(link) = self.table.get_mut(slot) else { return };
        let (rules, out) = (&self.rules, &mut self.actions);
        match what {
            What::GoAway => link.session.on_go_away(Close::GoingAway, within_ms, out),
            What::Leave => link.session.on_leave(rules, Close::GoingAway, out),
            What::Close(close) => link.session.on_close(rules, close, out),
            What::Reincarnate(_) => link.session.on_close(rules, Close::LeaseLost, out),
        }
        self.perform(slot);
    }

    pub(super) fn go_on_draining(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let empty = self.table.len() == 0;
        let what = match drain.phase {
            Phase::Telling if self.sweep.is_none() && (empty || self.now.ms >= drain.leave_ms) => {
                drain.phase = Phase::Leaving;
                What::Leave
            }
            Phase::Leaving | Phase::Telling if self.now.ms >= drain.end_ms => {
                drain.phase = Phase::Closing;
                What::Close(Close::GoingAway)
            }
            _ => {
                self.end_drain(empty);
                return;
            }
        };
        self.sweep = Some(Sweep { from: 0, what });
    }

    /// Ends the drain once everything is written and reported, or there is no more time.
    fn end_drain(&mut self, empty: bool) {
        let Some(drain) = &mut self.drain else { return };
        if drain.phase == Phase::Telling || self.sweep.is_some() {
            return;
        }
        let saved = self.cursors.next_ms() == u64::MAX && self.appends.in_flight == 0;
        if !saved {
            self.cursors.hurry();
        }
        let over = self.now.ms >= drain.end_ms + self.parts.config.linger_ms;
        if (empty && saved) || over {
            if let Some(done) = drain.done.take() {
                let _ = done.send(());
            }
            self.stopped = true;
        }
    }
}
