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

    /// From here on the VM's disk is the new one, which is whole and lies beside the old one: it was
    /// made from this content, and is a snapshot of `base` if it is one.
    ///
    /// # Errors
    /// [`StoreError::NotReady`] if it is being made or removed; [`StoreError::NoSuchVm`], or the
    /// file.
    pub fn begin_recreate(
        &self,
        vm: &VmId,
        made_from: &str,
        base: Option<&str>,
    ) -> Result<(), StoreError> {
        self.write(Survive::PowerLoss, "cannot store the new disk", |tx| {
            let sql = "UPDATE vms SET state = ?2, made_from = ?3, base = ?4 \
                       WHERE id = ?1 AND state = ?5";
            let values = params![
                vm.as_str(),
                to_word(&VmState::Recreating),
                made_from,
                base,
                to_word(&VmState::Ready)
            ];
            match tx.prepare_cached(sql)?.execute(values)? {
                1 => Ok(()),
                _ => Err(StoreError::NotReady(vm.clone()).into()),
            }
        })
    }

    /// The new disk is in its place. Nothing if the VM is being removed meanwhile.
    ///
    /// # Errors
    /// The file.
    pub fn end_recreate(&self, vm: &VmId) -> Result<(), StoreError> {
        self.write(Survive::PowerLoss, "cannot store the new disk", |tx| {
            let sql = "UPDATE vms SET state = ?2 WHERE id = ?1 AND state = ?3";
            let (ready, recreating) = (to_word(&VmState::Ready), to_word(&VmState::Recreating));
            tx.prepare_cached(sql)?.execute(params![vm.as_str(), ready, recreating])?;
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
        // Once: on a full disk the rest may be tried again.
        let mut then = Some(then);
        let renamed = self.write(Survive::PowerLoss, "cannot rename the image", |tx| {
            // Without a content it is from before there were any but the runtime directory's, or
            // about to be made.
            let sql = "UPDATE vms SET image = ?2 WHERE image = ?1 AND \
                       (?3 IS NULL OR made_from <> ?3 OR (made_from IS NULL AND state = ?4))";
            let making = to_word(&VmState::Creating);
            tx.prepare_cached(sql)?.execute(params![old.as_str(), new.as_str(), stays, making])?;
            then.take().map_or(Ok(()), |then| then()).map_err(StoreError::from)?;
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
