//! What of this machine decides which ids people can have: the maps of its user namespace, and the
//! gids of its local groups and devices.

use crate::config::{Builtin, Ids, LocalGroup};
use crate::store::IdKind;
use gpuhub_common::local;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why ids that are configured cannot be used here.
#[derive(Debug)]
pub struct Unmapped {
    /// A sentence.
    pub what: String,
    /// Nobody could look: perhaps they can.
    pub is_certain: bool,
}

/// The configured ids that this user namespace has no number for (user_namespaces(7)): a process
/// cannot become them. `root` is `/`, except in tests.
pub fn unmapped(root: &Path, ids: &Ids, builtin: &Builtin) -> Vec<Unmapped> {
    let [first, last] = ids.uid_range();
    let uids = builtin.user.iter().filter_map(|u| u.get_ref().uid.map(|id| (id, id)));
    let gids = builtin.group.iter().filter_map(|g| g.get_ref().gid.map(|id| (id, id)));
    let uids: Vec<_> = std::iter::once((first, last)).chain(uids).collect();
    let gids: Vec<_> = std::iter::once((first, last)).chain(gids).collect();
    let mut problems = Vec::new();
    for (file, wanted) in [(UID_MAP, uids), (GID_MAP, gids)] {
        let Ok(text) = std::fs::read_to_string(at(root, file)) else {
            let what = format!("{file} cannot be read, so nobody knows which ids exist here.");
            problems.push(Unmapped { what, is_certain: false });
            continue;
        };
        let map = IdMap::parse(&text);
        for (first, last) in wanted {
            let Some(missing) = map.first_missing(first, last) else { continue };
            let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
            let what =
                format!("The ids {range} are not all mapped in this container ({file} has {map}): {missing} is not.");
            problems.push(Unmapped { what, is_certain: true });
        }
    }
    problems
}

/// Which ids exist in this user namespace (user_namespaces(7)); all, where nobody could look.
#[derive(Debug, Clone, Default)]
pub struct Mapped {
    uids: Option<IdMap>,
    gids: Option<IdMap>,
}

impl Mapped {
    /// Of this process. `root` is `/`, except in tests.
    pub fn read(root: &Path) -> Self {
        let map = |file| std::fs::read_to_string(at(root, file)).ok().map(|text| IdMap::parse(&text));
        Self { uids: map(UID_MAP), gids: map(GID_MAP) }
    }

    /// Whether a process can have it.
    pub fn has(&self, kind: IdKind, id: u32) -> bool {
        let map = match kind {
            IdKind::User => &self.uids,
            IdKind::Group => &self.gids,
        };
        map.as_ref().is_none_or(|map| map.first_missing(id, id).is_none())
    }
}

const UID_MAP: &str = "/proc/self/uid_map";
const GID_MAP: &str = "/proc/self/gid_map";

/// What to do about it.
pub const UNMAPPED_REMEDY: &str = "Set [ids] uid_range in gpuhub.toml inside what is mapped (and registry, which a \
                                   small range needs), or map more ids when the container is started.";

/// The gid of the group that a rule means, on this machine. `Err` has a sentence.
pub fn gid_of(root: &Path, rule: &LocalGroup) -> Result<u32, String> {
    let gid = match (&rule.device, &rule.name) {
        (Some(device), _) => local::node_gid(&at(root, device)).ok_or(format!("There is no device {device} here.")),
        (None, Some(name)) => gid_by_name(root, name).ok_or(format!("{} has no group {name}.", local::GROUP)),
        (None, None) => Err("A rule names no group.".to_owned()),
    }?;
    match (local::may_be_joined(gid), rule) {
        (true, _) => Ok(gid),
        (false, LocalGroup { device: Some(device), .. }) if gid == 0 => {
            Err(format!("The device {device} is root's alone (gid 0), which nobody joins."))
        }
        (false, rule) => Err(format!("{rule} has the gid {gid}, which nobody joins.")),
    }
}

fn gid_by_name(root: &Path, name: &str) -> Option<u32> {
    let text = std::fs::read_to_string(at(root, local::GROUP)).ok()?;
    let line = text.lines().find(|l| l.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

fn at(root: &Path, path: &str) -> PathBuf {
    root.join(path.strip_prefix('/').unwrap_or(path))
}

/// The inner side of user_namespaces(7)'s uid_map: `inside outside count` a line.
#[derive(Debug, Clone)]
struct IdMap(Vec<(u64, u64)>);

impl IdMap {
    fn parse(text: &str) -> Self {
        let mut extents: Vec<(u64, u64)> = text
            .lines()
            .filter_map(|line| {
                let mut numbers = line.split_whitespace().map(str::parse::<u64>);
                let (Some(Ok(inside)), Some(Ok(_)), Some(Ok(count))) = (numbers.next(), numbers.next(), numbers.next())
                else {
                    return None;
                };
                Some((inside, count))
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        extents.sort_unstable();
        Self(extents)
    }

    /// The first id of `first..=last` that no extent has. Extents may join.
    fn first_missing(&self, first: u32, last: u32) -> Option<u32> {
        let mut next = u64::from(first);
        for (inside, count) in &self.0 {
            if *inside > next {
                break;
            }
            next = next.max(inside.saturating_add(*count));
        }
        u32::try_from(next).ok().filter(|next| *next <= last)
    }
}

impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (i, (inside, count)) in self.0.iter().enumerate() {
            write!(f, "{}{inside}-{}", if i == 0 { "" } else { ", " }, inside.saturating_add(count - 1))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn id_maps() {
        let map = IdMap::parse("0 1000 1\n1 100000 65536\nbroken\n70000 1 0\n");
        assert_eq!(map.to_string(), "0-0, 1-65536");
        assert_eq!(map.first_missing(0, 65536), None);
        assert_eq!(map.first_missing(65000, 65537), Some(65537));
        assert_eq!(map.first_missing(70000, 70001), Some(70000));
        assert_eq!(IdMap::parse("").first_missing(5, 5), Some(5));
        assert_eq!(IdMap::parse("0 0 4294967295").first_missing(1000, 4294967294), None);
    }

    #[test]
    fn ids_that_exist_here() {
        let root = std::env::temp_dir().join(format!("gpuhub-mapped-{}", std::process::id()));
        std::fs::create_dir_all(root.join("proc/self")).unwrap();
        std::fs::write(root.join("proc/self/uid_map"), "0 1000 1\n1 100000 65535\n").unwrap();
        let mapped = Mapped::read(&root);
        assert!(mapped.has(IdKind::User, 0) && mapped.has(IdKind::User, 65535));
        assert!(!mapped.has(IdKind::User, 65536));
        assert!(mapped.has(IdKind::Group, 65536), "nobody could look");
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn local_groups_are_those_of_this_machine() {
        let root = std::env::temp_dir().join(format!("gpuhub-machine-{}", std::process::id()));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::create_dir_all(root.join("dev")).unwrap();
        std::fs::write(root.join("etc/group"), "root:x:0:\nvideo:x:44:\nnogroup:x:65534:\n").unwrap();
        std::fs::write(root.join("dev/file"), "").unwrap();
        let gid = |line: &str| {
            let config = Config::parse("f", &format!("[[local_group]]\n{line}\n")).unwrap();
            gid_of(&root, config.local_groups[0].get_ref())
        };
        assert_eq!(gid("name = \"video\""), Ok(44));
        assert!(gid("name = \"render\"").unwrap_err().contains("no group render"));
        assert!(gid("name = \"nogroup\"").unwrap_err().contains("65534"));
        assert!(gid("name = \"root\"").unwrap_err().contains("gid 0"));
        assert!(gid("device = \"/dev/file\"").unwrap_err().contains("no device"), "a file is no device");
        assert!(gid("device = \"/dev/gpu0\"").unwrap_err().contains("no device"));
        let node = root.join("dev/gpu0");
        assert!(std::process::Command::new("mknod").arg(&node).args(["c", "1", "3"]).status().unwrap().success());
        assert!(gid("device = \"/dev/gpu0\"").unwrap_err().contains("root's alone"));
        std::os::unix::fs::chown(&node, None, Some(109)).unwrap();
        assert_eq!(gid("device = \"/dev/gpu0\""), Ok(109));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
