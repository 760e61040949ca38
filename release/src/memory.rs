//! The bundle as [`tough`] fetches from it.

use crate::bundle::Bundle;
use async_trait::async_trait;
use bytes::Bytes;
use protocol::release::MANIFEST_FILE;
use std::{collections::BTreeMap, sync::Arc};
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

/// Files by name, in memory.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<BTreeMap<String, Bytes>>);

impl Memory {
    /// The bundle's files; its roots by the versions that were read from them.
    pub(crate) fn new(bundle: &Bundle, roots: &[u64]) -> Self {
        let files = &bundle.files;
        let bytes =
            |raw: &serde_json::value::RawValue| Bytes::copy_from_slice(raw.get().as_bytes());
        let roots = roots.iter().zip(&files.roots);
        let roots = roots.map(|(version, raw)| (format!("{version}.root.json"), bytes(raw)));
        let named = [
            ("timestamp.json", &files.timestamp),
            ("snapshot.json", &files.snapshot),
            ("targets.json", &files.targets),
            (MANIFEST_FILE, &files.release),
        ];
        let named = named.into_iter().map(|(name, raw)| (name.to_string(), bytes(raw)));
        Self(Arc::new(roots.chain(named).collect()))
    }

    /// With consistent snapshots, names begin with a version or a digest, which the metadata
    /// itself vouches for: without it the name is the same file's.
    fn find(&self, name: &str) -> Option<&Bytes> {
        let plain = name.split_once('.').map(|(_, rest)| rest);
        self.0.get(name).or_else(|| self.0.get(plain?).filter(|_| !name.ends_with("root.json")))
    }
}

#[async_trait]
impl Transport for Memory {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let name = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
        let Some(bytes) = self.find(name).cloned() else {
            return Err(TransportError::new(TransportErrorKind::FileNotFound, &url));
        };
        Ok(Box::pin(futures::stream::iter([Ok(bytes)])))
    }
}
