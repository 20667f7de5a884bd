//! `gpuhub hash-password`: for `password_hash` in the configuration.

use crate::args::Args;
use crate::outcome::{Failure, print};
use crate::prompt;
use argon2::password_hash::{PasswordHasher, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use gpuhub_common::secret::Secret;
use std::process::ExitCode;

/// Asks and prints the PHC string.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&["--stdin"], &[], [])?;
    let password = if p.flag("--stdin") { prompt::from_stdin()? } else { prompt::twice("Password: ")? };
    print(&(hash(&password)? + "\n"));
    Ok(ExitCode::SUCCESS)
}

/// argon2id with the crate's defaults, which are OWASP's: 19 MiB, two passes, one lane.
fn hash(password: &Secret) -> Result<String, Failure> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|e| Failure::Refused(format!("no random bytes for the salt: {e}")))?;
    let salt = SaltString::encode_b64(&salt).map_err(|e| Failure::Refused(e.to_string()))?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
        .hash_password(password.expose(), &salt)
        .map(|h| h.to_string())
        .map_err(|e| Failure::Refused(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::{PasswordHash, PasswordVerifier};

    #[test]
    fn verifies_and_is_salted() {
        let secret = Secret::new(b"correct horse").unwrap();
        let (one, two) = (hash(&secret).unwrap(), hash(&secret).unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, two);
        let parsed = PasswordHash::new(&one).unwrap();
        assert!(Argon2::default().verify_password(b"correct horse", &parsed).is_ok());
        assert!(Argon2::default().verify_password(b"wrong horse", &parsed).is_err());
    }
}
