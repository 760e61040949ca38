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
        "fork" => loop {
            let _ = Command::new("/proc/self/exe").args(env::args().skip(1)).spawn();
        },
        _ => std::process::exit(101),
    }
}
