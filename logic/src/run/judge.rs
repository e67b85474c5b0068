//! How a run judges: loads what a batch needs, steps the stage record by record, and stages the effects.

use std::mem;

use super::fetch::Fetched;
use super::owner::Word;
use super::parts::End;
use super::poison::guarded;
use super::prefetch::Rows;
use super::shell::{Fate, Shell};
use super::turns::Run;
use crate::clock;

impl<S: Shell> Run<S> {
    /// Judges the batch and takes what else was asked, or starts loading what they need.
    pub(super) fn judge_batch(&mut self) -> Result<(), End> {
        while self.loading.is_idle() && !self.is_ending() {
            let missing = self.missing();
            if !missing.is_empty() {
                let retries = self.base.metrics.store_retries.clone();
                self.loading.start(S::fetch(self.base.parts.store.clone(), missing, retries));
                return Ok(());
            }
            self.judge()?;
            // What a broken step left is nothing to tell anybody of.
            if self.poisoned.is_some() {
                return Ok(());
            }
            self.shell.between(&mut self.base, &mut self.puts.staged.leaving)?;
            if self.batch.is_empty() {
                self.evict();
                return Ok(());
            }
        }
        Ok(())
    }

    fn missing(&self) -> Vec<S::Key> {
        let mut keys = Vec::new();
        self.batch.iter().for_each(|fetched| self.shell.keys(&fetched.record, &mut keys));
        self.shell.other_keys(&mut keys);
        keys.retain(|key| !self.shell.is_loaded(key));
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub(super) fn loaded(&mut self, rows: Rows<S::Key, S::Loaded>) -> Result<(), End> {
        self.evict_due = true;
        for (key, row) in rows {
            self.shell.load(key, row)?;
        }
        Ok(())
    }

    /// Never while a load is under way: a row that was read must not be older than one that was in memory.
    fn evict(&mut self) {
        if mem::take(&mut self.evict_due) {
            let (bytes_max, flush) = (self.base.parts.config.cache_bytes_max, &mut self.flush);
            self.shell.evict(bytes_max);
            // What is left is in use or changed: the changed ones can go once they are stored.
            if self.shell.bytes() > bytes_max {
                flush.ask();
            }
            self.base.metrics.cache_bytes.set(self.shell.bytes());
        }
    }

    /// Judges the batch, up to a record whose keys became known only by those before it.
    fn judge(&mut self) -> Result<(), End> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let began = clock::now();
        self.evict_due = true;
        while let Some(fetched) = self.batch.pop_front() {
            if !self.shell.is_ready(&fetched.record) {
                self.batch.push_front(fetched);
                break;
            }
            if !self.step(&fetched) {
                return Ok(());
            }
            self.next_offset = fetched.offset + 1;
            self.base.metrics.records.inc();
            let position = self.base.emit.judged();
            self.stage_effects(position)?;
        }
        self.base.metrics.step.observe((clock::now() - began).as_secs_f64());
        Ok(())
    }

    /// Whether the stage took the record. One that breaks it has no effects, and ends the judging.
    fn step(&mut self, fetched: &Fetched<S::Record>) -> bool {
        let last = self.shell.tick();
        let skip = self.skips.has(last, fetched.append_us);
        #[cfg(test)]
        let breaks = !skip && self.base.parts.breaks_at == Some(last.next(fetched.append_us));
        let (shell, effects) = (&mut self.shell, &mut self.effects);
        let stepped = guarded(|| {
            #[cfg(test)]
            assert!(!breaks, "the record breaks the stage, as the test wants it to");
            shell.step(fetched.append_us, &fetched.record, skip, effects);
        });
        if stepped.is_err() {
            self.effects.clear();
            self.batch.clear();
            self.poisoned = Some(last.next(fetched.append_us));
        }
        stepped.is_ok()
    }

    fn stage_effects(&mut self, position: u64) -> Result<(), End> {
        let staged = &mut self.puts.staged;
        staged.judged(position + 1);
        for effect in self.effects.drain(..) {
            match self.shell.fate(effect, position) {
                Fate::Store(row, bytes) => staged.store(row, bytes),
                Fate::Leave(leaving, bytes) => staged.leave(leaving, bytes),
                Fate::Owner(owner) => match self.base.ownership.read(&owner, self.shell.tick()) {
                    Word::Mine => staged.leaving.extend(self.shell.owned(&self.base)),
                    Word::Earlier => {}
                    Word::Superseded => return Err(End::Superseded),
                },
            }
        }
        Ok(())
    }
}
