//! A job's specification and its micro-batches' shapes, to its terms and its plan.
#![no_main]

use fuzz::{canonical, target};
use job::{Terms, plan, spec};
use protocol::{BatchPart, BatchShape, JobSpec, job::Work, transaction::MAX_JOB_BATCHES};

target!(|bytes: &[u8]| {
    if let Some((spec, shapes)) = canonical::<(JobSpec, Vec<BatchShape>)>(bytes) {
        planned(&spec, shapes);
    }
    if let Ok(spec) = serde_json::from_slice::<JobSpec>(bytes) {
        planned(&spec, vec![BatchShape::default(); 3]);
    }
});

fn planned(spec: &JobSpec, shapes: Vec<BatchShape>) {
    let Ok(()) = spec::check(spec) else { return };
    let lengths: Vec<(u32, u32)> =
        shapes.iter().map(|shape| (shape.source_tokens, shape.target_tokens)).collect();
    let planned = match &spec.work {
        Work::Train(train) => plan::training(train, &lengths),
        Work::Translate(translate) => {
            let lengths: Vec<u32> = lengths.iter().map(|(source, _)| *source).collect();
            plan::translation(translate, &lengths)
        }
    };
    if let Ok(plan) = planned {
        let members: usize = plan.members.iter().map(Vec::len).sum();
        assert_eq!(members + plan.left_out, lengths.len());
        assert_eq!(plan.members.len(), plan.shapes.len());
        assert!(plan.members.len() <= MAX_JOB_BATCHES);
    }
    let batches = shapes.len() as u32;
    let Ok(terms) = Terms::new(spec, shapes) else { return };
    let schedule = terms.schedule();
    let (last_epoch, last_step) = (schedule.epochs - 1, schedule.steps().saturating_sub(1));
    let mut seen: Vec<u32> = Vec::new();
    for step in [0, last_step, u32::MAX] {
        for epoch in [0, last_epoch, u32::MAX] {
            let micro_batches = schedule.micro_batches(step);
            for micro in [0, micro_batches.wrapping_sub(1), micro_batches, u32::MAX] {
                let distinct = terms.distinct(epoch, step, micro);
                assert!(distinct.is_none_or(|at| at < batches && micro < micro_batches));
            }
            terms.units(epoch, step, BatchPart::Update);
        }
    }
    seen.extend((0..last_step + 1).take(64).filter_map(|step| terms.distinct(0, step, 0)));
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count, "an epoch takes each micro-batch once");
}
