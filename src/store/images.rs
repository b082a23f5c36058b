//! What the database knows of images: which VM was made from which.

use rusqlite::params;

use super::{Store, StoreError, Survive, VmState, row::to_word};
use crate::domain::{ImageName, Problem, VmId};

impl Store {
    /// Writes down what a VM's disk is made from, before it is made.
    ///
    /// # Errors
    /// The file.
    pub fn record_made_from(&self, vm: &VmId, sha256: &str) -> Result<(), StoreError> {
        self.write(Survive::PowerLoss, "cannot store what the disk is made from", |tx| {
            tx.prepare_cached("UPDATE vms SET made_from = ?2 WHERE id = ?1")?
                .execute(params![vm.as_str(), sha256])?;
            Ok(())
        })
    }

    /// Gives an image of the user's another name in all its VMs, and does `then` in the same
    /// transaction: if that fails, nothing was changed. VMs that were made from the runtime
    /// directory's image of the old name, whose content is `stays`, keep theirs.
    ///
    /// # Errors
    /// What `then` says; the file.
    pub fn rename_image(
        &self,
        old: &ImageName,
        new: &ImageName,
        stays: Option<&str>,
        then: impl FnOnce() -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let renamed = self.write(Survive::PowerLoss, "cannot rename the image", |tx| {
            // Without a content it is from before there were any but the runtime directory's, or
            // about to be made.
            let sql = "UPDATE vms SET image = ?2 WHERE image = ?1 AND \
                       (?3 IS NULL OR made_from <> ?3 OR (made_from IS NULL AND state = ?4))";
            let making = to_word(&VmState::Creating);
            tx.prepare_cached(sql)?.execute(params![old.as_str(), new.as_str(), stays, making])?;
            then().map_err(StoreError::from)?;
            Ok(())
        });
        renamed.map_err(Problem::from)
    }

    /// Lets other processes know that images were changed: see [`Store::data_version`].
    ///
    /// # Errors
    /// The file.
    pub fn images_changed(&self) -> Result<(), Problem> {
        let told = self.write(Survive::Crash, "cannot tell that images were changed", |tx| {
            let sql = "INSERT INTO meta (key, value) VALUES ('images', 1) \
                       ON CONFLICT (key) DO UPDATE SET value = value + 1";
            tx.prepare_cached(sql)?.execute([])?;
            Ok(())
        });
        told.map_err(Problem::from)
    }
}
