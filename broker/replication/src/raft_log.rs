//! What raft-rs sees of the shard's log: indexes and terms. Payloads never enter raft-rs; a frame is found by its index.

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

/// Marks a Raft entry that carries records, as opposed to the empty one that opens a term.
pub(crate) const CARRIES_RECORDS: u8 = 1;

/// Term, vote and members of this replica, as stored in a hard-state frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) term: u64,
    pub(crate) vote: u64,
    pub(crate) voters: Vec<u64>,
}

impl Vote {
    /// The payload of a hard-state frame: term, vote, number of voters, voters; all u64, little-endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let count = self.voters.len() as u64;
        let fields = [self.term, self.vote, count];
        fields.iter().chain(&self.voters).flat_map(|field| field.to_le_bytes()).collect()
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let (fields, rest) = payload.as_chunks::<8>();
        let mut fields = fields.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let (term, vote, count) = (fields.next()?, fields.next()?, fields.next()?);
        let voters: Vec<u64> = fields.collect();
        (rest.is_empty() && voters.len() as u64 == count).then_some(Self { term, vote, voters })
    }
}

/// Indexes and terms of the log.
#[derive(Debug)]
pub(crate) struct RaftLog {
    vote: Vote,
    /// Entries before it were applied when the replica started.
    first_index: u64,
    last_index: u64,
    /// First index of each term, ascending.
    terms: Vec<(u64, u64)>,
}

impl RaftLog {
    /// A log whose entries up to `last_index` are covered by a snapshot.
    pub(crate) fn new(vote: Vote, last_index: u64, last_term: u64) -> Self {
        let terms = if last_index == 0 { Vec::new() } else { vec![(last_index, last_term)] };
        Self { vote, first_index: last_index + 1, last_index, terms }
    }

    pub(crate) fn append(&mut self, index: u64, term: u64) {
        if self.terms.last().is_none_or(|(_, last)| *last != term) {
            self.terms.push((index, term));
        }
        self.last_index = index;
    }

    /// Everything appended so far was applied by recovery.
    pub(crate) fn start(&mut self, vote: Vote) {
        self.vote = vote;
        self.first_index = self.last_index + 1;
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        if index == 0 {
            return Some(0);
        }
        let run = self.terms.partition_point(|(first, _)| *first <= index).checked_sub(1)?;
        (index <= self.last_index).then(|| self.terms[run].1)
    }
}

impl Storage for RaftLog {
    fn initial_state(&self) -> Result<RaftState> {
        let mut hard_state = HardState::default();
        hard_state.set_term(self.vote.term);
        hard_state.set_vote(self.vote.vote);
        hard_state.set_commit(self.last_index);
        let mut conf_state = ConfState::default();
        conf_state.set_voters(self.vote.voters.clone());
        Ok(RaftState::new(hard_state, conf_state))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low < self.first_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        let mut entries = Vec::new();
        for index in low..high {
            let term = self.term_at(index).ok_or(Error::Store(StorageError::Unavailable))?;
            let mut entry = Entry::default();
            entry.set_index(index);
            entry.set_term(term);
            entries.push(entry);
        }
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index + 1 < self.first_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.term_at(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.first_index)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last_index)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> Result<Snapshot> {
        // A follower that needs one is caught up from segment files; there is no follower with one replica.
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_survive_the_round_trip_and_damage_is_refused() {
        let vote = Vote { term: 7, vote: 1, voters: vec![1, 2, 3] };
        let bytes = vote.encode();
        assert_eq!(Vote::decode(&bytes), Some(vote));
        assert_eq!(Vote::decode(&bytes[1..]), None);
        assert_eq!(Vote::decode(&bytes[..40]), None);
    }

    #[test]
    fn terms_are_found_by_index() {
        let mut log = RaftLog::new(Vote { term: 0, vote: 0, voters: vec![1] }, 0, 0);
        for (index, term) in [(1, 1), (2, 1), (3, 4), (4, 4)] {
            log.append(index, term);
        }
        let terms: Vec<_> = (0..6).map(|index| log.term_at(index)).collect();
        assert_eq!(terms, [Some(0), Some(1), Some(1), Some(4), Some(4), None]);
    }

    #[test]
    fn behind_a_snapshot_only_its_last_term_is_known() {
        let mut log = RaftLog::new(Vote { term: 3, vote: 1, voters: vec![1] }, 7, 3);
        log.append(8, 5);
        assert_eq!((log.term_at(7), log.term_at(8), log.term_at(6)), (Some(3), Some(5), None));
    }
}
