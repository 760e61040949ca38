//! The matrix product against OpenBLAS, on one thread: the shapes of a training step, and a large
//! square.

use super::{Line, Pair, Show, peer::Peer};
use kernels::product::{Packing, nn, nt, tn};
use std::{path::Path, time::Instant};

/// Turns of each side.
const TURNS: usize = 15;
/// Floating-point operations a turn: some 10 ms.
const TURN: f64 = 4e8;

/// Name, kind, rows m, inner k, columns n. 300 tokens of width 128, inner 512, 4,000 pieces.
const SHAPES: &[(&str, &str, usize, usize, usize)] = &[
    ("queries, keys and values", "nt", 300, 128, 384),
    ("feed-forward, out", "nt", 300, 128, 512),
    ("feed-forward, in", "nt", 300, 512, 128),
    ("pieces", "nt", 300, 128, 4_000),
    ("pieces, gradient of the states", "nn", 300, 4_000, 128),
    ("pieces, gradient of the embedding", "tn", 4_000, 300, 128),
    ("feed-forward, gradient of the weights", "tn", 512, 300, 128),
    ("square", "nn", 1_024, 1_024, 1_024),
];

pub(super) fn run(show: Show<'_>) -> anyhow::Result<()> {
    let mut peer = Peer::start(Path::new("/usr/bin/python3"), include_str!("openblas.py"))?;
    for &(name, kind, m, k, n) in SHAPES {
        let numbers = |count: usize| -> Vec<f32> {
            (0..count).map(|at| (at * 7919 % 1000) as f32 * 1e-3 - 0.5).collect()
        };
        let (a, b, mut c) = (numbers(m * k), numbers(k * n), vec![0.0; m * n]);
        let mut packing = Packing::default();
        let operations = 2.0 * (m * k * n) as f64;
        let times = (TURN / operations).ceil() as usize;
        let product = match kind {
            "nn" => nn,
            "nt" => nt,
            _ => tn,
        };
        let ours = || {
            let began = Instant::now();
            for _ in 0..times {
                product(m, k, n, &a, &b, &mut c, &mut packing);
            }
            Ok(began.elapsed().as_secs_f64() / times as f64)
        };
        let told = format!("{kind} {m} {k} {n} {times}");
        let seconds = Pair::fastest(TURNS, ours, || peer.seconds(&told))?;
        let rate = |seconds: f64| operations / seconds / 1e9;
        let of = Pair { ours: rate(seconds.ours), theirs: rate(seconds.theirs) };
        let case = format!("{name} {m}x{k}x{n}");
        show(Line::rate("matmul", case, peer.name.clone(), "GFLOP/s", of));
    }
    Ok(())
}
