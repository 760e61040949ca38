//! TFTP, reading only: RFC 1350 with the options of RFC 2347, 2348 (block size), 2349 (timeout,
//! transfer size) and 7440 (window size).
//!
//! `packet`, `options`, `name`, `care` and `session` are pure; `server` has the sockets and files,
//! and `record` tells the timeline.
//!
//! **Never** writes a file, never reads one outside its folder, and never answers one packet with
//! more than a window of them.
//!
//! # Known deviations from specifications
//! | what | why |
//! |---|---|
//! | A second ACK of the same block is answered by nothing in lock step, and in a window by one repetition at most | RFC 1123 4.2.3.1 (the Sorcerer's Apprentice): answering each duplicate doubles the traffic for the rest of the transfer |
//! | Error 8 after our OACK is no failure, nor is error 0 after one that tells the size | EDK2 asks the size first and aborts so by design; the PXE ROMs of PC BIOSes do the same with code 0, "TFTP Aborted" |
//! | A part `care-…` of a name is none of a path | what the machine's firmware cannot take (blocks, windows, speed) is known to DHCP alone, and travels so |
//! | Mode `netascii` is refused | no firmware asks for it, and a boot file would arrive altered |

pub mod care;
pub mod name;
pub mod options;
pub mod packet;
pub mod record;
pub mod server;
pub mod session;
