//! Every operator on every instruction set of this CPU against its reference, bit for bit.

use super::{attention::Gradients, attention::Packed, dropout::Drop, dropout::Dropout, *};
use crate::{
    batch::Ragged,
    isa::tests::on_each,
    math::tests::same,
    philox::{Domain, Place, Stream},
    product,
};

fn place(site: u32) -> Place {
    Stream::new(11, Domain::Initial, [0; 3]).at(site)
}

/// Numbers in [-2, 2).
fn plain(site: u32, n: usize) -> Vec<f32> {
    let place = place(site);
    (0..n).map(|i| place.unit(i as u64) * 4.0 - 2.0).collect()
}

/// The same with a few that most code gets wrong: zeros of both signs, subnormals, huge ones and,
/// where wanted, infinities and NaN.
fn odd(site: u32, n: usize, infinite: bool) -> Vec<f32> {
    let specials = [
        0.0,
        -0.0,
        1e-45,
        -1e-45,
        1e-39,
        -3e-39,
        f32::MIN_POSITIVE,
        -f32::MIN_POSITIVE,
        1e-30,
        3e38,
        -3e38,
        1e20,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    let count = if infinite { specials.len() } else { specials.len() - 3 };
    let mut all = plain(site, n);
    for (i, x) in all.iter_mut().enumerate() {
        let which = (place(site + 1_000).unit(i as u64) * 4.0 * count as f32) as usize;
        if let Some(special) = specials[..count].get(which) {
            *x = *special;
        }
    }
    all
}

#[track_caller]
fn assert_same(what: impl std::fmt::Display, found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert!(same(*found, *wanted), "{what}: element {i} is {found:e}, not {wanted:e}");
    }
}

fn drops() -> [Drop; 2] {
    [Drop::NONE, Dropout::new(5, [1, 2, 3], 20_000).at(Some(4))]
}

/// Lengths around one, a vector, a dropout group.
const LENGTHS: [usize; 12] = [1, 2, 15, 16, 17, 31, 100, 127, 128, 129, 300, 1_111];

#[test]
fn products_are_the_reference_in_all_shapes() {
    let sizes = [1, 2, 5, 6, 7, 13, 16, 17, 31, 33, 64, 65];
    let mut shapes = Vec::new();
    for (i, &m) in sizes.iter().enumerate() {
        for (j, &k) in sizes.iter().enumerate() {
            shapes.push((m, k, sizes[(5 * i + 3 * j) % sizes.len()]));
            shapes.push((m, k, sizes[(7 * i + j + 1) % sizes.len()]));
        }
    }
    // Across the blocks of rows, of columns and of k.
    shapes.extend([(100, 64, 130), (3, 2_500, 40), (61, 1_025, 9), (50, 33, 1_500), (301, 170, 3)]);
    on_each(|isa| {
        let mut packing = product::Packing::default();
        for &(m, k, n) in &shapes {
            for special in [false, true] {
                let numbers = |site, count| {
                    if special { odd(site, count, true) } else { plain(site, count) }
                };
                let (a, b, bias) = (numbers(1, m * k), numbers(2, k * n), numbers(3, n));
                let what = format!("{isa} {m} x {k} x {n}");
                let mut c = vec![f32::NAN; m * n];
                let extents = (m, k, n);
                product::nn(m, k, n, &a, &b, &mut c, &mut packing);
                let wanted =
                    product::reference(extents, |i, l| a[i * k + l], |l, j| b[l * n + j], None);
                assert_same(format!("nn {what}"), &c, &wanted);
                let by_row = |i: usize, l: usize| a[i * k + l];
                product::nt_bias(m, k, n, &a, &b, Some(&bias), &mut c, &mut packing);
                let wanted = product::reference(extents, by_row, |l, j| b[j * k + l], Some(&bias));
                assert_same(format!("nt {what}"), &c, &wanted);
                product::tn(m, k, n, &a, &b, &mut c, &mut packing);
                let wanted =
                    product::reference(extents, |i, l| a[l * m + i], |l, j| b[l * n + j], None);
                assert_same(format!("tn {what}"), &c, &wanted);
            }
        }
    });
}

#[test]
fn a_product_over_nothing_is_zero() {
    let mut c = [5.0; 6];
    product::nt_bias(2, 0, 3, &[], &[], Some(&[1.0, -0.0, 2.0]), &mut c, &mut Default::default());
    assert_eq!(c.map(f32::to_bits), [1.0f32, 0.0, 2.0, 1.0, 0.0, 2.0].map(f32::to_bits));
    product::nn(0, 4, 0, &[], &[], &mut [], &mut Default::default());
}

#[test]
fn element_by_element_operators_are_the_reference() {
    on_each(|isa| {
        for n in LENGTHS {
            let (a, b) = (odd(1, n, true), odd(2, n, true));
            let what = format!("{isa} {n}");
            let mut y = vec![f32::NAN; n];
            add::run(&a, &b, &mut y);
            assert_same(format!("add {what}"), &y, &add::reference(&a, &b));
            relu::run_backward(&a, &b, 1.25, &mut y);
            let wanted = relu::reference_backward(&a, &b, 1.25);
            assert_same(format!("relu backward {what}"), &y, &wanted);
            for drop in drops() {
                residual::run(&a, &b, drop, &mut y);
                let wanted = residual::reference(&a, &b, drop);
                assert_same(format!("residual {what}"), &y, &wanted);
                residual::run_backward(&a, drop, &mut y);
                let wanted = residual::reference_backward(&a, drop);
                assert_same(format!("residual backward {what}"), &y, &wanted);
                relu::run(&a, drop, &mut y);
                assert_same(format!("relu {what}"), &y, &relu::reference(&a, drop));
            }
        }
    });
}

#[test]
fn dropout_drops_as_many_as_it_says_and_keeps_the_mean() {
    let [_, drop] = drops();
    let n = 200_000;
    let kept = (0..n).filter(|&i| drop.multiplier(i) != 0.0).count();
    let wanted = n as f64 * (1.0 - 20_000.0 / 65_536.0);
    assert!((kept as f64 - wanted).abs() < 4.0 * (n as f64 * 0.25).sqrt(), "{kept} {wanted}");
    let mean = (0..n).map(|i| f64::from(drop.multiplier(i))).sum::<f64>() / n as f64;
    assert!((mean - 1.0).abs() < 0.01, "{mean}");
}

fn ragged(lengths: &[usize], below: u32) -> Ragged {
    let mut ragged = Ragged::default();
    for (s, &length) in lengths.iter().enumerate() {
        let place = place(70 + s as u32);
        ragged.push((0..length).map(|i| (place.unit(i as u64) * below as f32) as u32));
    }
    ragged
}

#[test]
fn embedding_is_the_reference() {
    on_each(|isa| {
        for width in [2, 16, 20, 128] {
            let tokens = ragged(&[3, 1, 9], 7);
            let positions = positions::table(20, width);
            let table = odd(1, 7 * width, true);
            let dy = odd(2, 13 * width, true);
            for drop in drops() {
                let of = embed::Embed { width, tokens: &tokens, first_position: 5, drop };
                let mut scratch = Vec::new();
                let mut y = vec![f32::NAN; 13 * width];
                embed::run(of, &table, &positions, &mut scratch, &mut y);
                let wanted = embed::reference(of, &table, &positions);
                assert_same(format!("embed {isa} {width}"), &y, &wanted);
                let mut found = plain(3, 7 * width);
                let mut wanted = found.clone();
                embed::run_backward(of, &dy, &mut scratch, &mut found);
                embed::reference_backward(of, &dy, &mut wanted);
                assert_same(format!("embed backward {isa} {width}"), &found, &wanted);
            }
        }
    });
}

#[test]
fn layer_normalisation_is_the_reference() {
    on_each(|isa| {
        for n in LENGTHS {
            for special in [false, true] {
                let rows = 5;
                let numbers = |site, n| if special { odd(site, n, false) } else { plain(site, n) };
                let x = numbers(1, rows * n);
                let (gain, bias) = (plain(2, n), plain(3, n));
                let (mut y, mut statistics) = (vec![f32::NAN; rows * n], vec![f32::NAN; rows * 2]);
                layer_norm::run(&x, &gain, &bias, &mut y, &mut statistics);
                let wanted = layer_norm::reference(&x, &gain, &bias);
                let what = format!("{isa} {n}");
                assert_same(format!("rows {what}"), &y, &wanted.0);
                assert_same(format!("statistics {what}"), &statistics, &wanted.1);
                let (dy, residual) = (numbers(4, rows * n), numbers(5, rows * n));
                for residual in [None, Some(residual.as_slice())] {
                    let of = layer_norm::Back {
                        dy: &dy,
                        x: &x,
                        statistics: &statistics,
                        gain: &gain,
                        residual,
                    };
                    let mut dx = vec![f32::NAN; rows * n];
                    let (mut dgain, mut dbias) = (vec![f32::NAN; n], vec![f32::NAN; n]);
                    layer_norm::run_backward(of, &mut dx, &mut dgain, &mut dbias);
                    let wanted = layer_norm::reference_backward(of);
                    assert_same(format!("dx {what}"), &dx, &wanted.0);
                    assert_same(format!("dgain {what}"), &dgain, &wanted.1);
                    assert_same(format!("dbias {what}"), &dbias, &wanted.2);
                }
            }
        }
    });
}

#[test]
fn bias_gradients_are_the_reference() {
    on_each(|isa| {
        for n in LENGTHS {
            let (dy, x) = (odd(1, 9 * n, true), plain(2, 9 * 3));
            let (mut dw, mut dbias) = (vec![f32::NAN; n * 3], vec![f32::NAN; n]);
            let mut packing = Default::default();
            linear::run_weight_backward((3, n), &dy, &x, &mut packing, &mut dw, Some(&mut dbias));
            let wanted = linear::reference_column_sums(&dy, n);
            assert_same(format!("{isa} {n}"), &dbias, &wanted);
        }
    });
}

#[test]
fn cross_entropy_and_argmax_are_the_reference() {
    on_each(|isa| {
        for v in LENGTHS {
            for special in [false, true] {
                let rows = 4;
                let mut logits = if special { odd(1, rows * v, true) } else { plain(1, rows * v) };
                logits.iter_mut().for_each(|x| *x *= 20.0);
                let labels: Vec<u32> = (0..rows).map(|i| (i * 7 % v) as u32).collect();
                let mut tokens = vec![f32::NAN; rows * 3];
                let loss = cross_entropy::run(&labels, &logits, 0.1, &mut tokens);
                let wanted = cross_entropy::reference(&labels, &logits, 0.1);
                let what = format!("{isa} {v}");
                assert_same(format!("loss {what}"), &[loss], &[wanted.0]);
                assert_same(format!("tokens {what}"), &tokens, &wanted.1);
                let mut d = vec![f32::NAN; rows * v];
                cross_entropy::run_backward(&labels, &logits, &tokens, 0.1, &mut d);
                let wanted = cross_entropy::reference_backward(&labels, &logits, &tokens, 0.1);
                assert_same(format!("backward {what}"), &d, &wanted);
                let mut best = vec![9; rows];
                argmax::run(&logits, &mut best);
                let wanted: Vec<u32> = logits.chunks(v).map(argmax::reference).collect();
                assert_eq!(best, wanted, "argmax {what}");
            }
        }
    });
}

#[test]
fn of_equal_logits_the_lowest_id_wins() {
    on_each(|isa| {
        let mut logits = vec![-1.0f32; 50];
        (logits[40], logits[19], logits[35]) = (2.0, 2.0, 2.0);
        let mut best = [0];
        argmax::run(&logits, &mut best);
        assert_eq!(best, [19], "{isa}");
        argmax::run(&[-0.0, 0.0, -5.0], &mut best);
        assert_eq!(best, [0], "{isa}");
    });
}

#[test]
fn attention_is_the_reference() {
    let sources = ragged(&[4, 1, 17, 40], 9);
    let targets = ragged(&[7, 2, 16, 33], 9);
    on_each(|isa| {
        for (width, heads) in [(20, 4), (32, 2), (6, 1), (34, 2)] {
            for (queries, keys, causal) in [
                (&sources, &sources, false),
                (&targets, &targets, true),
                (&targets, &sources, false),
            ] {
                for (drop, special) in
                    [(drops()[0], false), (drops()[1], false), (drops()[1], true)]
                {
                    let within = std::ptr::eq(queries, keys);
                    let (tq, tk) = (queries.tokens().len(), keys.tokens().len());
                    let numbers =
                        |site, n| if special { odd(site, n, true) } else { plain(site, n) };
                    let one = numbers(1, tq * width * if within { 3 } else { 1 });
                    let two = numbers(2, tk * width * 2);
                    let part = |which: bool, stride: usize, start: usize| Packed {
                        data: if which { &two } else { &one },
                        stride: stride * width,
                        start: start * width,
                    };
                    let [q, k, v] = if within {
                        [part(false, 3, 0), part(false, 3, 1), part(false, 3, 2)]
                    } else {
                        [part(false, 1, 0), part(true, 2, 0), part(true, 2, 1)]
                    };
                    let of =
                        attention::Attention { heads, width, queries, keys, causal, drop, q, k, v };
                    let wanted = attention::reference::forward(of);
                    let mut y = vec![f32::NAN; tq * width];
                    let mut weights = vec![f32::NAN; wanted.1.len()];
                    let mut scratch = attention::Scratch::default();
                    attention::run(of, &mut scratch, &mut y, &mut weights);
                    let what = format!("{isa} {width} / {heads} causal {causal}");
                    assert_same(format!("weights {what}"), &weights, &wanted.1);
                    assert_same(format!("context {what}"), &y, &wanted.0);

                    let dy = numbers(3, tq * width);
                    let (dq, dk, dv) = attention::reference::backward(of, &weights, &dy);
                    let (mut first, mut second) =
                        (vec![f32::NAN; one.len()], vec![f32::NAN; two.len()]);
                    let gradients = if within {
                        Gradients::One(&mut first)
                    } else {
                        Gradients::Two(&mut first, &mut second)
                    };
                    attention::run_backward(of, &weights, &dy, &mut scratch, gradients);
                    let rows = |all: &[f32], stride: usize, start: usize| -> Vec<f32> {
                        let rows = all.chunks(stride * width);
                        rows.flat_map(|row| row[start * width..][..width].to_vec()).collect()
                    };
                    let [found_q, found_k, found_v] = if within {
                        [0, 1, 2].map(|start| rows(&first, 3, start))
                    } else {
                        [rows(&first, 1, 0), rows(&second, 2, 0), rows(&second, 2, 1)]
                    };
                    assert_same(format!("queries {what}"), &found_q, &dq);
                    assert_same(format!("keys {what}"), &found_k, &dk);
                    assert_same(format!("values {what}"), &found_v, &dv);
                }
            }
        }
    });
}

#[test]
fn the_optimiser_is_the_reference() {
    let step = adam::Step {
        factor: 0.37,
        beta1: 0.9,
        beta2: 0.98,
        correction1: 1.7,
        correction2: 12.0,
        rate: 3e-3,
        epsilon: 1e-9,
    };
    on_each(|isa| {
        for n in LENGTHS {
            let (sum, w, m) = (odd(1, n, true), odd(2, n, false), plain(3, n));
            let v: Vec<f32> = odd(4, n, false).iter().map(|x| x.abs()).collect();
            let (mut w2, mut m2, mut v2) = (w.clone(), m.clone(), v.clone());
            adam::run(step, &sum, &mut w2, &mut m2, &mut v2);
            for i in 0..n {
                let wanted = adam::reference(step, sum[i], w[i], m[i], v[i]);
                assert_same(format!("{isa} {n}"), &[w2[i], m2[i], v2[i]], &wanted);
            }
            let wanted = clip::reference_squares(&m);
            assert_same(format!("squares {isa} {n}"), &[clip::squares_on(isa, &m)], &[wanted]);
        }
        let long = plain(5, 40_000);
        assert_same("squares", &[clip::squares_on(isa, &long)], &[clip::reference_squares(&long)]);
    });
}

#[test]
fn clipping_brings_the_norm_to_its_limit_and_leaves_a_smaller_one() {
    let sum = plain(1, 3_000);
    let norm = sum.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() / 100.0;
    let [found, factor] = clip::run(&sum, 100.0, 0.1);
    assert!((f64::from(found) / norm - 1.0).abs() < 1e-5);
    assert!((f64::from(factor) * 100.0 * norm / 0.1 - 1.0).abs() < 1e-5);
    assert_eq!(clip::run(&sum, 100.0, 1e9)[1], 0.01);
    assert_eq!(clip::run(&sum, 100.0, 0.0)[1], 0.01);
}

#[test]
fn the_rate_rises_to_its_peak_and_falls_by_the_root() {
    let adam = protocol::job::AdamSpec {
        peak_rate: 0.002,
        warmup_steps: 100,
        beta1: 0.9,
        beta2: 0.98,
        epsilon: 1e-9,
        clip_norm: 0.0,
    };
    assert_eq!(schedule::rate(&adam, 50), 0.001);
    assert_eq!(schedule::rate(&adam, 100), 0.002);
    assert_eq!(schedule::rate(&adam, 400), 0.001);
    let [p1, p2, c1, c2, _] = schedule::run(&adam, 1, [1.0, 1.0]);
    assert_eq!([p1, p2, c1, c2], [0.9, 0.98, 1.0 / (1.0 - 0.9), 1.0 / (1.0 - 0.98)]);
}
