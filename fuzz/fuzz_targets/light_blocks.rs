//! Headers, commits and validators of a lying server, held against believed ones.
#![no_main]

use fuzz::parts;
use ledger_client::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::light_blocks(parts(bytes)));
