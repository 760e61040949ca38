//! Images that were served, so that a machine's release can be told by name later.

use super::{Store, StoreError, to_sql};
use protocol::{Digest, boot::ImageManifest};
use rusqlite::{OptionalExtension, params};

impl Store {
    /// Remembers an image.
    pub fn add_image(&self, manifest: &ImageManifest, now: u64) -> Result<(), StoreError> {
        let json = serde_json::to_string(manifest)?;
        self.writer().execute(
            "INSERT INTO images (digest, manifest, served_from) VALUES (?1, ?2, ?3)
             ON CONFLICT (digest) DO NOTHING",
            params![manifest.digest().to_string(), json, to_sql(now)],
        )?;
        Ok(())
    }

    /// The image of that digest, where we ever served it.
    pub fn image(&self, digest: &Digest) -> Result<Option<ImageManifest>, StoreError> {
        let json: Option<String> = self
            .reader()
            .query_row(
                "SELECT manifest FROM images WHERE digest = ?1",
                [digest.to_string()],
                |row| row.get(0),
            )
            .optional()?;
        Ok(json.map(|json| serde_json::from_str(&json)).transpose()?)
    }
}
