//! The codes of handles: made when a handle goes out, and compared before anything of one that comes in is looked at. The
//! key is drawn when the first handle is made, and is a record of the log, so that it is where the shard is.

use broker_model::{HandleKey, RecallHandle, ReceiptHandle, TransactionId, is_code};
use broker_store::Record;

use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::refusal::Refusal;

impl<R: ReplyTo> Engine<R> {
    /// The key of this shard, given on first use.
    pub(crate) fn handle_key(&mut self, effects: &mut Effects<R>) -> HandleKey {
        if let Some(key) = self.state.handle_key {
            return key;
        }
        let key = HandleKey(self.chance.bytes());
        // Known at once, so that the next handle has it too; committing it again changes nothing.
        self.state.handle_key = Some(key);
        effects.append(&Record::HandleKey(key));
        key
    }

    pub(crate) fn coded(
        &mut self,
        handle: ReceiptHandle,
        effects: &mut Effects<R>,
    ) -> ReceiptHandle {
        let code = Some(self.handle_key(effects).of_receipt(&handle));
        ReceiptHandle { code, ..handle }
    }

    pub(crate) fn check_receipt(&self, handle: &ReceiptHandle) -> Result<(), Refusal> {
        self.check(handle.code, |key| key.of_receipt(handle))
    }

    pub(crate) fn check_recall(&self, handle: &RecallHandle) -> Result<(), Refusal> {
        self.check(handle.code, |key| key.of_recall(handle))
    }

    pub(crate) fn check_transaction(&self, id: &TransactionId) -> Result<(), Refusal> {
        self.check(id.code, |key| key.of_transaction(id))
    }

    fn check(
        &self,
        code: Option<u64>,
        expected: impl FnOnce(&HandleKey) -> u64,
    ) -> Result<(), Refusal> {
        let is_ours = match &self.state.handle_key {
            Some(key) => is_code(code, || expected(key)),
            // This shard has made none.
            None => code.is_none(),
        };
        is_ours.then_some(()).ok_or(Refusal::ForeignHandle)
    }
}
