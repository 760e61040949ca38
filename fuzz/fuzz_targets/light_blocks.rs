//! Headers, commits and validators of a lying server, held against believed ones.
#![no_main]

use fuzz::{parts, target};
use ledger_client::fuzzing;

target!(|bytes: &[u8]| fuzzing::light_blocks(parts(bytes)));
