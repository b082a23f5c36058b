//! `banger images export` and `import`.

use super::{
    args::{ImagesExport, ImagesImport},
    exit::{self, Failure, Outcome},
    images::Teller,
    images_foreign, out,
    runtime::cancel_on_signal,
};
use crate::{
    domain::{BadImageName, ImageName, Problem},
    image::{Catalog, archive, import::Kind},
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
    // A directory or a pipe is none; what is not there is said below.
    let regular = import.file.metadata().is_ok_and(|meta| meta.is_file());
    let native = if regular { archive::is_native(&import.file) } else { Ok(false) };
    let native = native
        .map_err(|e| Problem::new(what(), e.to_string(), "check its name and its permissions"))?;
    if !native {
        return images_foreign::run(import, name, catalog);
    }
    if import.memory.is_some() || import.size.is_some() || import.kind != Kind::Auto {
        let why = "it is an image of banger's, which has its own memory and size";
        let hint = "leave --memory, --size and --kind out";
        return Err(Failure::Usage(Problem::new(what(), why, hint)));
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
