//! Keys in files, and the identity of a node that is an ordinary process on an ordinary machine:
//! a parameter server, or a worker that no image of ours booted. (On a booted machine PID 1 does
//! this, in memory.)
//!
//! **Never** leaves a key where another user can read it, and never sends one anywhere.

pub mod keyfile;
pub mod node;
pub mod register;

pub use node::NodeIdentity;
pub use register::{RegisterError, register};
