//! How much of what strangers may have. Whoever has many addresses is many strangers, so that the
//! last bound is that of all together.

/// The most tokens of an owner that wait for their first use: a shelf of sticks.
pub const MOST_WAITING: u64 = 8;
/// The most tokens of an owner in all. Who has more machines has a provisioner of his own.
pub const MOST_OF_OWNER: u64 = 64;
/// The most tokens in all: half of the machines that a provisioner keeps, so that the other half is
/// its operator's whatever strangers do. A token takes some 2 kB.
pub const MOST: u64 = 5_000;
/// For how long it is said of a token that it expired, or was taken back, once its time is over.
pub const REMEMBERED_SECONDS: u64 = 7 * 86_400;
/// The most media that are given out at once: some 70 MB each.
pub const AT_ONCE: usize = 8;
/// The most of them to one peer.
pub const AT_ONCE_EACH: usize = 2;
