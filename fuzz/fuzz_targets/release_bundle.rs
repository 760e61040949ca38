//! Whatever is served as a release: only the one that was signed is believed.
#![no_main]

use fuzz::target;
use release::{Bundle, sign::testing, verify};
use std::{path::PathBuf, sync::LazyLock};
use tokio::runtime::{Builder, Runtime};

static ROOT: LazyLock<Vec<u8>> = LazyLock::new(testing::root_json);
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));
static SCRATCH: LazyLock<PathBuf> = LazyLock::new(std::env::temp_dir);

target!(|bytes: &[u8]| {
    let Ok(bundle) = Bundle::from_bytes(bytes) else { return };
    let again = bundle.to_bytes();
    assert_eq!(Bundle::from_bytes(&again).expect("what was read").to_bytes(), again);
    let result = RUNTIME.block_on(verify(&ROOT, &bundle, Some(0), 0, &SCRATCH));
    match result {
        Ok(verified) => {
            assert_eq!(verified.manifest, fuzz::release::manifest());
            assert_eq!(verified.expires, fuzz::release::EXPIRES);
        }
        Err(error) => assert_eq!(error.blame(), release::Blame::Release, "{error}"),
    }
});
