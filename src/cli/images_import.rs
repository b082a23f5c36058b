//! `banger images export` and `import`.

use super::{
    args::{ImagesExport, ImagesImport},
    exit::{self, Failure, Outcome},
    images::Teller,
    out,
    runtime::cancel_on_signal,
};
use crate::{
    domain::{BadImageName, ImageName, Problem},
    image::{Catalog, archive},
};

/// Writes an image into a file.
///
/// # Errors
/// What cannot be read or written.
pub fn export(export: &ImagesExport, catalog: &Catalog) -> Outcome {
    let cancel = cancel_on_signal()?;
    let mut teller = Teller::new(&export.name, &cancel);
    let whole = archive::export(catalog, &export.name, &export.file, &mut |done, total| {
        teller.tell(done, total)
    })?;
    if !whole {
        out::note("cancelled; nothing was written");
        return Err(Failure::Said(exit::FAILED));
    }
    out::line(format!("{}: exported to {}", export.name, export.file.display()))?;
    Ok(exit::OK)
}

/// Makes an image from a file.
///
/// # Errors
/// What is wrong with the file; what cannot be written.
pub fn import(import: &ImagesImport, catalog: &Catalog) -> Outcome {
    let shown = import.file.display();
    let what = || format!("cannot import {shown}");
    let name = import.name.as_deref().map(str::parse::<ImageName>).transpose();
    let name =
        name.map_err(|e: BadImageName| Problem::new(what(), e.to_string(), "--name NAME"))?;
    let native = archive::is_native(&import.file)
        .map_err(|e| Problem::new(what(), e.to_string(), "check its name and its permissions"))?;
    if !native {
        let why = "it is no image that banger exported";
        return Err(Problem::new(what(), why, "`banger images export` makes one").into());
    }
    let cancel = cancel_on_signal()?;
    let mut teller = Teller::new("import", &cancel);
    let mut tell = |done, total| teller.tell(done, total);
    let made = archive::import(catalog, &import.file, name.as_ref(), import.replace, &mut tell)?;
    let Some(view) = made else {
        out::note("cancelled; nothing was imported");
        return Err(Failure::Said(exit::FAILED));
    };
    out::line(format!("{}: imported", view.name))?;
    Ok(exit::OK)
}
