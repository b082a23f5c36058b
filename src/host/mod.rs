//! Every privileged or kernel contact; the only room for `unsafe`.
