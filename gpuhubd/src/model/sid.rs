//! Windows security identifiers of a domain's users and groups ([MS-DTYP] 2.4.2).

use std::fmt;

/// Revision 1, five subauthorities, authority 5 in six bytes big-endian.
const HEAD: [u8; 8] = [1, 5, 0, 0, 0, 0, 0, 5];

/// The security identifier of a domain's user or group: S-1-5-21-a-b-c-RID ([MS-DTYP] 2.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid {
    domain: [u32; 3],
    rid: u32,
}

/// The bytes or the text are not the SID of a domain's user or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotADomainSid;

impl fmt::Display for NotADomainSid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the SID of a domain's user or group (S-1-5-21-…)")
    }
}

impl std::error::Error for NotADomainSid {}

impl Sid {
    /// From the binary form (objectSid): revision 1, five subauthorities, authority 5 in six bytes
    /// big-endian, then 21, three words of the domain and the RID, little-endian.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotADomainSid> {
        let (head, words) = bytes.split_first_chunk::<8>().ok_or(NotADomainSid)?;
        if *head != HEAD || words.len() != 20 {
            return Err(NotADomainSid);
        }
        let mut words = words.chunks_exact(4).map(|w| w.iter().rev().fold(0u32, |n, b| n << 8 | u32::from(*b)));
        let mut next = || words.next().ok_or(NotADomainSid);
        if next()? != 21 {
            return Err(NotADomainSid);
        }
        Ok(Self { domain: [next()?, next()?, next()?], rid: next()? })
    }

    /// From the text form.
    pub fn parse(text: &str) -> Result<Self, NotADomainSid> {
        let mut words = text.strip_prefix("S-1-5-21-").ok_or(NotADomainSid)?.split('-').map(|word| {
            // Digits alone, and no other spelling of the same number.
            word.parse().ok().filter(|n: &u32| n.to_string() == word).ok_or(NotADomainSid)
        });
        let mut next = || words.next().ok_or(NotADomainSid)?;
        let sid = Self { domain: [next()?, next()?, next()?], rid: next()? };
        if words.next().is_some() { Err(NotADomainSid) } else { Ok(sid) }
    }

    /// Another one of the same domain: that of a user's primaryGroupID.
    pub fn with_rid(self, rid: u32) -> Self {
        Self { rid, ..self }
    }

    /// The binary form, as [`Sid::from_bytes`] reads it.
    pub fn to_bytes(self) -> [u8; 28] {
        let [a, b, c] = self.domain;
        let mut bytes = [0; 28];
        let words = [21, a, b, c, self.rid].map(u32::to_le_bytes);
        let all = HEAD.iter().chain(words.iter().flatten());
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// The relative identifier: the last number.
    pub fn rid(self) -> u32 {
        self.rid
    }

    /// The SID of the domain.
    pub fn domain(self) -> String {
        let [a, b, c] = self.domain;
        format!("S-1-5-21-{a}-{b}-{c}")
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.domain(), self.rid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_and_nothing_else() {
        let text = "S-1-5-21-3623811015-3361044348-30300820-1013";
        let mut bytes = vec![1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0];
        for word in [3_623_811_015u32, 3_361_044_348, 30_300_820, 1013] {
            bytes.extend(word.to_le_bytes());
        }
        let sid = Sid::from_bytes(&bytes).unwrap();
        assert_eq!(sid, Sid::parse(text).unwrap());
        assert_eq!(sid.to_string(), text);
        assert_eq!(sid.to_bytes()[..], bytes);
        for cut in 0..bytes.len() {
            assert_eq!(Sid::from_bytes(&bytes[..cut]), Err(NotADomainSid), "{cut}");
        }
        assert!(Sid::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        for at in 0..12 {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(Sid::from_bytes(&other).is_err(), "{at}");
        }
        for bad in [
            "",
            "S-1-5-21",
            "S-1-5-21-1-2-3",
            "S-1-5-21-1-2-3-4-5",
            "S-1-5-32-544",
            "S-1-1-0",
            "s-1-5-21-1-2-3-4",
            "S-1-5-21-1-2-3-4294967296",
            "S-1-5-21-1-2-3-04",
            "S-1-5-21-1-2-3-+4",
            "S-1-5-21-1-2--3",
            "S-1-5-21-1-2-3- 4",
        ] {
            assert!(Sid::parse(bad).is_err(), "{bad}");
        }
    }
}
