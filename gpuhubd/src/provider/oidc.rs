//! OpenID Connect (being written).
