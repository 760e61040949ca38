//! Why the ledger refuses a transaction: one stable number a reason, in one table.
//!
//! `CheckTx` and `FinalizeBlock` answer the same number for the same reason. 0 is acceptance; a
//! number never changes its meaning and is never used again.

use borsh::{BorshDeserialize, BorshSerialize};
use std::fmt;

/// What a client should make of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sense {
    /// What it asked for stands already: success.
    Already,
    /// Something that it leans on is not there yet: try again later.
    NotYet,
    /// It will never be accepted as it is.
    Never,
}

/// What a refusal's `data` holds: which item of the transaction's list was at fault, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RefusedItem {
    /// The item's place.
    pub index: u32,
}

macro_rules! refusals {
    ($($number:literal $name:ident $sense:ident $what:literal $mend:literal;)*) => {
        /// A reason for refusal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum RefusalCode {
            $(#[doc = $what] $name = $number,)*
        }

        impl RefusalCode {
            /// Every code, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code of a number; `None` for 0 and for numbers that newer ledgers may use.
            pub fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// What a client should make of it.
            pub fn sense(self) -> Sense {
                match self {
                    $(Self::$name => Sense::$sense,)*
                }
            }

            /// What was wrong.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what,)*
                }
            }

            /// What to do about it.
            pub fn mend(self) -> &'static str {
                match self {
                    $(Self::$name => $mend,)*
                }
            }
        }
    };
}

refusals! {
    // Bytes.
    1 TooLong Never "The transaction is longer than the limit" "split it";
    2 Undecodable Never "The bytes are no transaction" "update the client";
    3 NotCanonical Never "The bytes are not the transaction's canonical bytes" "encode it with borsh, every field once, nothing after the end";
    4 ListLength Never "A list is empty or longer than its limit" "split the transaction";
    5 AlreadyWaiting NotYet "What it asks for waits for a block already, in another transaction" "hand it in again after the next block, to see whether it stands";
    // Signatures.
    10 Version Never "A signed value has a version that is not understood here" "update the older side";
    11 Chain Never "A signed value is for another chain" "sign it for this chain";
    12 Signature Never "A signature does not fit its key and message" "sign it again, with the key it names";
    13 NotTheSigner Never "It is signed by a key that may not say this" "have it signed by the key that may";
    14 WorkKey Never "A receipt is signed by another key than its certificate's work key" "sign with the certified work key";
    // Nodes.
    20 AlreadyRegistered Already "The node is registered already, with the same owner and role" "nothing: it stands";
    21 RegisteredOtherwise Never "The node's key is registered with another owner or role" "make a fresh identity key for this node";
    22 Ownership Never "The ownership names another delegate or node" "have the owner's delegate endorse this node's key";
    23 UnknownNode NotYet "A node that it names is not registered" "register the node first";
    24 NotAParameterServer Never "The node is not registered as a parameter server" "name a node of that role";
    // Jobs.
    30 JobExists Already "The job exists already" "nothing: it stands (for a second one alike, change the nonce)";
    31 BadSpec Never "The job's specification is out of bounds" "correct the specification";
    32 BadShapes Never "The shapes of the micro-batches do not fit the specification" "create the job with a current client";
    33 UnknownJob NotYet "The job is not on the ledger" "create the job first";
    // Assignments.
    40 OutOfBounds Never "An epoch, step or part is not one of the job's" "check the job's specification";
    41 NotAligned Never "A run of micro-batches is not aligned" "assign aligned runs of a power of two, or the rest of the step";
    42 Attempt Never "An attempt's number is 0 or over the limit" "count attempts from 1";
    43 AttemptTaken Never "That attempt at the batch is assigned already" "use the next attempt's number";
    44 AlreadyAssigned Already "Every run of it is assigned already, to the same nodes" "nothing: it stands";
    45 NotTheServersNode Never "The update is given to another node than the parameter server's own" "assign it to the parameter server's node";
    // Receipts.
    50 UnknownAssignment NotYet "The assignment is not on the ledger" "wait until the parameter server's assignment is in a block";
    51 NotTheAssignedNode Never "The assignment is another node's" "submit receipts of this node's own work alone";
    52 NotTheAssignedBatch Never "The batch or attempt is not the assignment's" "name the batch and attempt as they were assigned";
    53 AlreadySubmitted Already "The receipt is on the ledger already" "nothing: it stands";
    54 AttemptHasReceipt Never "That attempt at the batch has another receipt already" "nothing: one receipt an attempt counts";
    55 WrongUnits Never "The work units are not those of the job's shape" "update the worker";
    // Confirmations.
    60 UnknownReceipt NotYet "The receipt is not on the ledger" "wait until the receipt is in a block, or submit it";
    61 ReceiptOfAnotherJob Never "The receipt is of another job" "confirm receipts of the named job alone";
    62 AlreadyConfirmed Already "The receipt is confirmed already" "nothing: it stands";
    63 WrongSalt Never "Salt and work root do not open the receipt's work root" "refuse the result, or confirm with the salt that came with it";
}

impl RefusalCode {
    /// Its number: CometBFT's `code`.
    pub fn number(self) -> u32 {
        self as u32
    }
}

/// `the job exists already; nothing: it stands`.
impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.mend())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_are_never_0_and_name_their_code() {
        let numbers: Vec<u32> = RefusalCode::ALL.iter().map(|code| code.number()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
        assert!(RefusalCode::from_number(0).is_none());
        for code in RefusalCode::ALL {
            assert_eq!(RefusalCode::from_number(code.number()), Some(*code));
        }
    }
}
