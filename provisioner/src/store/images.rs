//! Images that were served, so that a machine's release can be told by name later.

use super::{
    Store, StoreError,
    sql::{Part, values},
};
use protocol::{Digest, boot::ImageManifest};

impl Store {
    /// Remembers an image.
    pub fn add_image(&self, manifest: &ImageManifest, now: u64) -> Result<(), StoreError> {
        let json = serde_json::to_string(manifest)?;
        self.write(Part::Machines, |sql| {
            sql.execute(
                "INSERT INTO images (digest, manifest, served_from) VALUES (?1, ?2, ?3)
                 ON CONFLICT (digest) DO NOTHING",
                values![manifest.digest().to_string(), json, now],
            )?;
            Ok(())
        })
    }

    /// The image of that digest, where we ever served it.
    pub fn image(&self, digest: &Digest) -> Result<Option<ImageManifest>, StoreError> {
        let select = "SELECT manifest FROM images WHERE digest = ?1";
        let row = self.read(|sql| sql.first(select, values![digest.to_string()]))?;
        let json: Option<String> = row.map(|row| row.get(0)).transpose()?;
        Ok(json.map(|json| serde_json::from_str(&json)).transpose()?)
    }
}
