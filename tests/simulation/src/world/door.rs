//! The door of the replica: commands go in, answers come out, writes happen; and the checker hears of all of it.

use std::cell::Cell;
use std::rc::Rc;

use broker_engine::{Command, Outcome, Refusal, Reply, Source, TransactionCheck};

use broker_model::ShardId;
use broker_replication::shard_poll::Claim;
use broker_store::WriteError;
use broker_store::sealed_index::IndexError;

use super::World;
use crate::bugs::PlantedBug;
use crate::network::Packet;
use crate::process::Ticket;

impl World {
    pub(super) fn submit_call(&mut self, call: u64, command: Command) -> Result<(), String> {
        let gone = self.clients.gone(call);
        let ticket = self.submit(command, gone)?;
        self.calls.insert(ticket, call);
        Ok(())
    }

    /// Gives a command to the replica; the number of its ticket.
    pub(crate) fn submit(&mut self, command: Command, gone: Rc<Cell<bool>>) -> Result<u64, String> {
        self.submit_claimed(command, gone, None)
    }

    /// The same for a poll that other shards may answer.
    pub(crate) fn submit_claimed(
        &mut self,
        command: Command,
        gone: Rc<Cell<bool>>,
        claim: Option<(Claim, ShardId)>,
    ) -> Result<u64, String> {
        self.next_ticket += 1;
        let number = self.next_ticket;
        let now = self.now();
        let now_ms = now.steady_ms;
        self.trace.note(now_ms, format_args!("asked {number}: {command:?}"));
        self.checker.submitted(number, &command, now_ms);
        let claim = claim.filter(|_| self.bug != Some(PlantedBug::IgnoredClaim));
        let ticket = Ticket { number, gone, claim };
        let distorted = match self.bug {
            Some(bug) => bug.distort(command.clone()),
            None => Some(command.clone()),
        };
        match (distorted, &mut self.process) {
            (Some(command), Some(process)) => process.replica.submit(now, command, ticket),
            _ => self.release(&ticket, PlantedBug::made_up(&command), Some(command))?,
        }
        Ok(number)
    }

    /// Lets the replica work once, and carries out what it wants.
    pub(crate) fn step_replica(&mut self) -> Result<(), String> {
        let now = self.now();
        let now_ms = now.steady_ms;
        let Some(process) = &mut self.process else { return Ok(()) };
        let output = process.replica.step(now);
        if let Some(write) = output.write {
            self.trace.note(now_ms, format_args!("write handed off: {write:?}"));
            process.write = Some(write);
        }
        if self.has_faults && self.random.happens(self.plan.faults.kill / 8) {
            // Between the hand-over to the writer and the answers.
            return self.kill();
        }
        for (ticket, reply) in output.replies {
            self.release(&ticket, reply, None)?;
        }
        for check in output.checks {
            self.ask_producer(check)?;
        }
        let failure = self.process.as_ref().and_then(|process| process.replica.failure());
        if failure.is_some_and(|reason| reason.contains("no space is left")) {
            return Err("a full volume made the log fail".to_owned());
        }
        if failure.is_some() {
            self.trace.note(now_ms, format_args!("the log failed; the process ends"));
            self.remove_bad_index();
            self.end_process();
        }
        Ok(())
    }

    /// As the shell does.
    fn remove_bad_index(&mut self) {
        let disk = self.shared_disk();
        let engine = self.process.as_ref().map(|process| process.replica.engine());
        let index = engine.and_then(broker_engine::Engine::index_failure);
        if let Some(IndexError::Damaged { path, .. }) = index {
            let _refused_again = disk.remove(path);
        }
    }

    fn release(
        &mut self,
        ticket: &Ticket,
        mut reply: Reply,
        asked: Option<Command>,
    ) -> Result<(), String> {
        let now_ms = self.now_ms();
        if ticket.number == 0 {
            return Ok(());
        }
        let _made_up = asked;
        if let Some(bug) = self.bug {
            // Before bytes are read, so that nothing reads them again.
            self.read_bodies(&mut reply);
            bug.distort_reply(&mut reply);
        }
        let is_gone = ticket.gone.get();
        if let Ok(Outcome::Received(deliveries)) = &reply
            && (is_gone || ticket.is_lost())
            && deliveries.is_empty()
        {
            self.checker.poll_ended(ticket.number);
            self.calls.remove(&ticket.number);
            return Ok(());
        }
        if let Ok(Outcome::Received(deliveries)) = &reply
            && !deliveries.is_empty()
        {
            let deliveries = deliveries.clone();
            let is_readable = self.read_bodies(&mut reply);
            if is_gone || !is_readable {
                self.trace
                    .note(now_ms, format_args!("to nobody {}: {deliveries:?}", ticket.number));
                self.checker.handed_out(ticket.number, &deliveries, now_ms)?;
            }
            if is_gone {
                let handles = deliveries.iter().map(|delivery| delivery.handle).collect();
                self.calls.remove(&ticket.number);
                return self.give_back(handles);
            }
            if !is_readable {
                let refused = Err(Refusal::LogFailed("a message cannot be read".to_owned()));
                self.answer(ticket.number, refused);
                return Ok(());
            }
        }
        self.trace.note(now_ms, format_args!("answered {}: {reply:?}", ticket.number));
        self.checker.answered(ticket.number, &reply, now_ms)?;
        if self.bug == Some(PlantedBug::TwoHolders)
            && let Ok(Outcome::Received(deliveries)) = &reply
        {
            let handles = deliveries.iter().map(|delivery| delivery.handle).collect();
            self.give_back_secretly(handles);
        }
        self.answer(ticket.number, reply);
        Ok(())
    }

    fn answer(&mut self, ticket: u64, reply: Reply) {
        let Some(call) = self.calls.remove(&ticket) else {
            self.direct.insert(ticket, reply);
            return;
        };
        let copies = 1 + u64::from(self.random.happens(self.plan.faults.duplicate));
        for _ in 0..copies {
            if self.random.happens(self.plan.faults.drop) {
                continue;
            }
            let at_ms = self.true_ms + self.random.below(self.plan.delay_ms_max + 1);
            self.network.send(at_ms, Packet::Reply { call, reply: reply.clone() });
        }
    }

    /// As the shell does when it finds that a poller is gone.
    fn give_back(&mut self, handles: Vec<broker_model::ReceiptHandle>) -> Result<(), String> {
        if self.bug == Some(PlantedBug::CountedRelease) {
            let release = Command::Release(handles);
            let now_ms = self.now_ms();
            self.next_ticket += 1;
            self.checker.submitted(self.next_ticket, &release, now_ms);
            return Ok(());
        }
        self.submit(Command::Release(handles), Rc::default())?;
        Ok(())
    }

    fn give_back_secretly(&mut self, handles: Vec<broker_model::ReceiptHandle>) {
        let now = self.now();
        let ticket = Ticket::new(0, Rc::default());
        if let Some(process) = &mut self.process {
            process.replica.submit(now, Command::Release(handles), ticket);
        }
    }

    /// Reads what is not in memory any more; whether that went well.
    fn read_bodies(&mut self, reply: &mut Reply) -> bool {
        let Ok(Outcome::Received(deliveries)) = reply else { return true };
        let Some(process) = &self.process else { return false };
        let reader = process.replica.reader();
        for delivery in deliveries {
            if let Source::Log { position, length_bytes, identity } = delivery.source {
                let Ok(message) = reader.message(position, length_bytes, &identity) else {
                    return false;
                };
                delivery.source = Source::Memory { head: message.head, body: message.body };
            }
        }
        true
    }

    fn ask_producer(&mut self, mut check: TransactionCheck) -> Result<(), String> {
        self.checker.question(check.id.number);
        let Some(process) = &self.process else { return Ok(()) };
        if let Source::Log { position, length_bytes, identity } = check.source {
            let reader = process.replica.reader();
            let Ok(message) = reader.message(position, length_bytes, &identity) else {
                return Ok(());
            };
            check.source = Source::Memory { head: message.head, body: message.body };
        }
        let Source::Memory { body, .. } = &check.source else { return Ok(()) };
        self.checker.check_asked(&check, body)?;
        self.submit(Command::NoteTransactionCheck(check.id), Rc::default())?;
        if let Some(call) = self.clients.asked(&check, &mut self.random) {
            self.send(call);
        }
        Ok(())
    }

    /// The writer does what it was given.
    pub(crate) fn finish_write(&mut self) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let Some(write) = process.write.take() else { return self.step_replica() };
        let result = process.writer.write(&write);
        self.true_ms += self.disk.take_delay_ms();
        let now = self.now();
        let now_ms = now.steady_ms;
        let Some(process) = &mut self.process else { return Ok(()) };
        match result {
            Ok(written) => {
                self.trace.note(now_ms, format_args!("written"));
                process.replica.written(now, written);
            }
            Err(WriteError::NoRoom(error)) => {
                self.trace.note(now_ms, format_args!("write waits: {error}"));
                process.replica.write_waits();
                process.write = Some(write);
            }
            Err(WriteError::Failed(error)) => {
                self.trace.note(now_ms, format_args!("write failed: {error}"));
                process.replica.fail(&error.to_string());
            }
        }
        self.step_replica()
    }

    /// Asks and waits for the answer, without a network.
    pub(crate) fn ask(&mut self, command: Command) -> Result<Reply, String> {
        let ticket = self.submit(command, Rc::default())?;
        for _ in 0..64 {
            self.step_replica()?;
            if let Some(reply) = self.direct.remove(&ticket) {
                return Ok(reply);
            }
            self.finish_write()?;
        }
        Err("a command is not answered although the disk works".to_owned())
    }
}
