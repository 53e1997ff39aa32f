//! A reference model of the specification, and random sequences of operations that the product must do as the
//! model does: after each one, all that can be seen is compared.
//!
//! A sequence that fails is made as short as it gets, and told with the seed that makes it again.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use crate::support::long_form;

mod after;
mod catalog;
mod found;
mod mount;
mod spec;
mod verbs;

/// Runs `sequences` sequences, or as many times that as the long form says; one that fails is made shorter in at
/// most `shrinks` attempts.
fn run_sequences<S: Strategy>(
    name: &str,
    (sequences, shrinks): (u32, u32),
    strategy: &S,
    check: impl Fn(&S::Value),
) {
    let (seed, factor) = long_form();
    let config = Config {
        cases: sequences.saturating_mul(factor),
        max_shrink_iters: shrinks,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    blake3::Hasher::new()
        .update(name.as_bytes())
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(strategy, |sequence| {
        check(&sequence);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, minimal)) => {
            panic!("SOAK_SEED={seed} SOAK_FACTOR={factor} {name}: {reason}\nminimal: {minimal:#?}")
        }
        Err(TestError::Abort(reason)) => panic!("{name}: {reason}"),
    }
}
