//! People whom one provider knows, a directory, and who prove themselves at another one.

use crate::config::ClaimPath;
use gpuhub_common::name::UserName;

/// Whom a sign-in must prove.
#[derive(Debug, Clone, Copy)]
pub struct Sought<'a> {
    /// Her name here.
    pub name: &'a UserName,
    /// By what.
    pub by: By<'a>,
}

/// By what a provider's word is known to be about her.
#[derive(Debug, Clone, Copy)]
pub enum By<'a> {
    /// Her name there is the one here.
    Name,
    /// What her directory knows her by there.
    Join(&'a Join),
    /// Her key there, which whoever asks compares: she has signed in before.
    Key,
}

impl<'a> From<&'a UserName> for Sought<'a> {
    fn from(name: &'a UserName) -> Self {
        Self { name, by: By::Name }
    }
}

/// What the provider must say of her.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// In this claim; absent: for the login name that its rules make.
    pub claim: Option<ClaimPath>,
    /// One of these. None of them is empty, and without any nobody is she.
    pub values: Vec<String>,
}
