//! A compute service that does wrong, for tests of what PID 1 makes of it: it does what the
//! machine's name says.
#![allow(clippy::unwrap_used, reason = "a service that panics is one of the faults")]

use std::{env, fs, process::Command, thread, time::Duration};

fn main() {
    // As PID 1 starts the compute service: `serve --config FILE`.
    let file = env::args().nth(3).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let what = config["name"].as_str().unwrap().to_owned();
    println!("a bad service: {what}");
    match what.as_str() {
        "hang" => loop {
            thread::park();
        },
        "memory" => {
            let mut eaten: Vec<Vec<u8>> = Vec::new();
            loop {
                eaten.push(vec![1; 16 << 20]);
                thread::sleep(Duration::from_millis(20));
            }
        }
        "fork" => {
            println!("{}", process());
            println!("{}", threads());
            // What it is refused it goes on asking for.
            loop {
                process();
                threads();
            }
        }
        // As a panic ends it.
        "crash" => std::process::exit(101),
        other => panic!("nobody is to do {other}"),
    }
}

/// Asks for a process of its own; says what came of it.
fn process() -> String {
    match Command::new("/proc/self/exe").args(env::args().skip(1)).spawn() {
        Ok(child) => format!("forked process {}", child.id()),
        Err(error) => format!("no process: {error}"),
    }
}

/// Threads that stay, until there are no more; says how many, and why no more.
fn threads() -> String {
    let mut count = 0;
    loop {
        if let Err(error) = thread::Builder::new().stack_size(64 << 10).spawn(stay) {
            return format!("{count} threads and no more: {error}");
        }
        count += 1;
        if count % 64 == 0 {
            // A sign of progress, so that it is not for its silence that there are no more.
            println!("\u{6}");
        }
    }
}

fn stay() {
    loop {
        thread::park();
    }
}
