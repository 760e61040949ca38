//! Taking results: what a worker brings is looked at, kept, and only then acknowledged.

use super::{Engine, EngineError, receipt_entry};
use crate::{
    record::{AssignedEntry, PartEntry},
    server::Expected,
    step::{StepState, Verdict},
    store::write_file_soon,
    workers::Workers,
};
use job::tree::Span;
use protocol::{
    BatchPart, Digest, PublicKey, SignedReceipt, receipt,
    transaction::{Confirmation, Run, assignment_id},
    work::{LeafResult, MAX_RECORDS, ResultMessage, ResultReply, WorkResult, telemetry_root},
};
use std::time::Duration;

const FINISHED: &str = "no such assignment is outstanding: the step was finished without it";

impl Engine {
    /// What is to be done with a result that begins with this receipt, whose signatures were
    /// checked.
    ///
    /// # Errors
    /// [`EngineError`]: the disk.
    pub fn expects(&self, head: &SignedReceipt) -> Result<Expected, EngineError> {
        let body = &head.body;
        let steps = [Some(&self.step), self.previous.as_ref()];
        let mut outstanding =
            steps.into_iter().flatten().filter_map(|step| step.outstanding(&body.assignment));
        match outstanding.next() {
            Some(outstanding) if outstanding.run.node == body.node() => {
                Ok(Expected::Wanted { most: self.max_result_len() })
            }
            Some(_) => Ok(Expected::Not("it is another node's than the assignment's".into())),
            // The receipts of a result are kept together or not at all.
            None => Ok(Expected::Over(match self.store.receipt(&body.id())? {
                Some(entry) if entry.used => ResultReply::Used,
                Some(_) => ResultReply::Late,
                None => ResultReply::Refused(FINISHED.into()),
            })),
        }
    }

    /// Takes a result whose bytes were read. The reply says what became of it.
    ///
    /// # Errors
    /// [`EngineError`]: the disk or our own numbers. The result then counts as not taken, and the
    /// worker should bring it again.
    pub fn accept(
        &mut self,
        message: ResultMessage,
        workers: &mut Workers,
        now: u64,
    ) -> Result<ResultReply, EngineError> {
        let ResultMessage { result, payload } = message;
        let of = |state: &StepState| state.outstanding(&result.assignment).copied();
        let (outstanding, is_current) = match (of(&self.step), self.previous.as_ref().and_then(of))
        {
            (Some(outstanding), _) => (outstanding, true),
            (None, Some(outstanding)) => (outstanding, false),
            (None, None) => {
                let before = self.answered_before(&result.leaves)?;
                return Ok(before.unwrap_or_else(|| ResultReply::Refused(FINISHED.into())));
            }
        };
        // Anybody can send these bytes: what is not the worker's own word costs it nothing.
        if let Err(why) = self.check_origin(&result, &outstanding.run.node) {
            return Ok(ResultReply::Refused(why));
        }
        if let Some(reply) = self.answered_before(&result.leaves)? {
            self.refuse(&result.assignment);
            return Ok(reply);
        }
        let Some(span) = outstanding.span() else {
            return Ok(ResultReply::Refused("the assignment is the server's own".into()));
        };
        let (epoch, step) = match (&self.previous, is_current) {
            (Some(previous), false) => (previous.epoch(), previous.step()),
            _ => (self.step.epoch(), self.step.step()),
        };
        if let Err(why) = self.check(&result.leaves, &outstanding.run, span, epoch, step) {
            self.refuse(&result.assignment);
            return Ok(ResultReply::Refused(why));
        }
        if let Some(pulled) = outstanding.pulled_at {
            let products = result.leaves.iter().map(|leaf| leaf.receipt.body.units.product).sum();
            let took = Duration::from_millis(now.saturating_sub(pulled).max(1));
            workers.measured(&outstanding.run.node, products, took, now);
        }
        if !is_current {
            if let Some(previous) = &mut self.previous {
                previous.finish(&result.assignment);
            }
            return self.keep_late(&result.leaves, &outstanding.run, epoch, step, now);
        }
        // Looked at on a copy, so that a failing disk leaves the run outstanding.
        let mut after = self.step.clone();
        match after.finish(&result.assignment) {
            Some((_, Verdict::Used)) => {}
            _ => {
                self.step = after;
                return self.keep_late(&result.leaves, &outstanding.run, epoch, step, now);
            }
        }
        match self.gathered.check(&self.job, span, &result.leaves, &result.payload, &payload) {
            Ok(()) => {}
            Err(why) => {
                self.refuse(&result.assignment);
                return Ok(ResultReply::Refused(why));
            }
        }
        let id = self.job.id();
        write_file_soon(&self.store.part_path(&id, span), &payload)?;
        let confirmations = confirmations(&result.leaves);
        let part = PartEntry {
            epoch,
            step,
            first: span.first,
            count: span.count,
            loss: result.leaves.iter().map(|leaf| leaf.loss).sum(),
            payload: result.payload,
            receipts: confirmations.clone(),
            node: outstanding.run.node,
        };
        let answered = AssignedEntry { epoch, step, run: outstanding.run, answered: true };
        self.store.write(|changes| {
            for leaf in &result.leaves {
                changes.put_receipt(&leaf.receipt.body.id(), &receipt_entry(leaf, true, now))?;
            }
            changes.put_assigned(&id, &result.assignment, &answered)?;
            changes.put_part(&id, &part)
        })?;
        self.gathered.insert(&self.job, span, &payload)?;
        self.step = after;
        self.loss += part.loss;
        self.confirmations.extend(confirmations);
        self.tally.note(&result.leaves, &outstanding.run, true);
        self.note_pace(now);
        if self.step.is_done() {
            let products = self.products();
            for (node, elapsed) in self.step.overdue(now) {
                workers.at_most(&node, products, Duration::from_millis(elapsed));
            }
            self.finish_step(now)?;
        }
        Ok(ResultReply::Used)
    }

    /// What was answered to these receipts when they came before: the answer was lost on its way,
    /// or this server was killed before it gave it.
    fn answered_before(&self, leaves: &[LeafResult]) -> Result<Option<ResultReply>, EngineError> {
        let mut used = true;
        for leaf in leaves {
            match self.store.receipt(&leaf.receipt.body.id())? {
                Some(entry) => used &= entry.used,
                None => return Ok(None),
            }
        }
        let reply = if used { ResultReply::Used } else { ResultReply::Late };
        Ok((!leaves.is_empty()).then_some(reply))
    }

    /// That a result is what the node of its assignment says of it, signed.
    fn check_origin(&self, result: &WorkResult, node: &PublicKey) -> Result<(), String> {
        if result.leaves.is_empty() {
            return Err("the result has no receipt".into());
        }
        for leaf in &result.leaves {
            let body = &leaf.receipt.body;
            let wrong = |what: &str| Err(format!("the receipt of {}: {what}", body.batch));
            if body.assignment != result.assignment {
                return wrong("it answers another assignment");
            }
            if body.node() != *node {
                return wrong("it is another node's than the assignment's");
            }
            if let Err(error) = receipt::verify(&leaf.receipt, &self.identity.chain) {
                return wrong(&error.to_string());
            }
        }
        Ok(())
    }

    fn refuse(&mut self, assignment: &Digest) {
        self.step.give_up(assignment);
        if let Some(previous) = &mut self.previous {
            previous.give_up(assignment);
        }
    }

    /// Keeps the receipts of work that somebody else was faster with, and confirms them.
    fn keep_late(
        &mut self,
        leaves: &[LeafResult],
        run: &Run,
        epoch: u32,
        step: u32,
        now: u64,
    ) -> Result<ResultReply, EngineError> {
        let messages = self.confirm_messages(confirmations(leaves));
        let id = self.job.id();
        let assignment = assignment_id(&id, epoch, step, run);
        let answered = AssignedEntry { epoch, step, run: *run, answered: true };
        self.store.write(|changes| {
            for leaf in leaves {
                changes.put_receipt(&leaf.receipt.body.id(), &receipt_entry(leaf, false, now))?;
            }
            changes.put_assigned(&id, &assignment, &answered)?;
            messages.iter().try_for_each(|message| changes.push_outgoing(message))
        })?;
        self.tally.note(leaves, run, false);
        Ok(ResultReply::Late)
    }

    /// What a result's receipts must say beside who made them for which assignment
    /// ([`Engine::check_origin`]).
    fn check(
        &self,
        leaves: &[LeafResult],
        run: &Run,
        span: Span,
        epoch: u32,
        step: u32,
    ) -> Result<(), String> {
        if leaves.len() != span.count as usize {
            return Err(format!("{} micro-batches were wanted, {} came", span.count, leaves.len()));
        }
        let parameters = self.parameters_of(epoch, step);
        for (leaf, micro) in leaves.iter().zip(span.micro_batches()) {
            let wrong = |what: &str| Err(format!("the receipt of micro-batch {micro}: {what}"));
            let batch = self.job.batch(epoch, step, BatchPart::Micro(micro));
            let body = &leaf.receipt.body;
            if body.batch != batch || body.attempt != run.attempt {
                return wrong("it is for another batch or attempt");
            }
            if parameters.is_some_and(|wanted| wanted != body.parameters) {
                return wrong("it began from other parameters than were assigned");
            }
            match self.job.input_digest(&batch) {
                Ok(input) if input == body.input => {}
                Ok(_) => return wrong("it was done on other sentences"),
                Err(error) => return wrong(&error.to_string()),
            }
            if self.job.terms().units(epoch, step, batch.part) != Some(body.units) {
                return wrong("its work units are not the batch's");
            }
            if leaf.records.len() > MAX_RECORDS {
                return wrong("its log is too long");
            }
            let root = protocol::operation::work_root(&leaf.records);
            if leaf.salt.blind(&root) != body.work_root {
                return wrong("salt and records do not open its work root");
            }
            if telemetry_root(&leaf.telemetry) != body.telemetry_root {
                return wrong("its telemetry root is not over the telemetry that came with it");
            }
            if !leaf.loss.is_finite() {
                return wrong("its loss is not a number");
            }
        }
        Ok(())
    }

    fn parameters_of(&self, epoch: u32, step: u32) -> Option<Digest> {
        if (epoch, step) == (self.step.epoch(), self.step.step()) {
            return Some(self.gathered.parameters());
        }
        let ordinal = self.job.terms().schedule().ordinal(epoch, step);
        let steps = self.store.steps(&self.job.id(), ordinal).ok()?;
        steps.first().filter(|(at, _)| *at == ordinal).map(|(_, entry)| entry.before)
    }
}

fn confirmations(leaves: &[LeafResult]) -> Vec<Confirmation> {
    leaves
        .iter()
        .map(|leaf| Confirmation {
            receipt: leaf.receipt.body.id(),
            salt: leaf.salt,
            work_root: protocol::operation::work_root(&leaf.records),
        })
        .collect()
}
