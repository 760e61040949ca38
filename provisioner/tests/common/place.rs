//! Where a test's store is: a file of its own, or, where ALIA_TEST_POSTGRES names a server
//! (a URL with `{}` for the database's name), a database of its own there.

use std::{
    path::Path,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// What `--database` is given. Every call names another one.
pub(crate) fn fresh(folder: &Path) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let Ok(server) = std::env::var("ALIA_TEST_POSTGRES") else {
        return folder.join(format!("p{count}.sqlite")).display().to_string();
    };
    let name = format!("test_{}_{count}", process::id());
    let make = || {
        let url = server.replace("{}", "postgres");
        let mut admin = postgres::Client::connect(&url, postgres::NoTls)?;
        admin.batch_execute(&format!("CREATE DATABASE {name}"))
    };
    if let Err(error) = std::thread::scope(|scope| scope.spawn(make).join().unwrap()) {
        panic!("{server}: {error}");
    }
    server.replace("{}", &name)
}
