//! Which way the host's programs come to know the names.

use crate::{
    domain::{NamesRoute, Problem},
    host::resolver::ResolverFacts,
};

/// A way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// systemd-resolved asks our server.
    Resolved,
    /// A block of `/etc/hosts`.
    Hosts,
    /// None, and why.
    Nothing(Problem),
}

/// The way for this host. `may_operate`: whether operations that need root can be done, by us or by
/// the root helper.
#[must_use]
pub fn choose(wanted: NamesRoute, facts: &ResolverFacts, may_operate: bool) -> Way {
    let none = |why: &str, hint: &str| {
        Way::Nothing(Problem::new("this host's programs do not know .vm", why, hint))
    };
    if wanted == NamesRoute::None {
        return none("names.route is “none”", "set it to \"auto\" to have names here");
    }
    if !may_operate {
        let hint = "install the root helper, or have a mapdns told (names.mapdns_file, \
                    names.mapdns_publish)";
        return none("it takes root to say who knows them", hint);
    }
    let (resolved, hosts) = (facts.uses_resolved(), facts.asks("files"));
    match wanted {
        NamesRoute::Resolved | NamesRoute::Auto if resolved => Way::Resolved,
        NamesRoute::Hosts | NamesRoute::Auto if hosts => Way::Hosts,
        NamesRoute::Resolved if !facts.resolved_runs => none(
            "names.route is “resolved”, and systemd-resolved does not run",
            "sudo systemctl enable --now systemd-resolved; or set names.route = \"auto\"",
        ),
        NamesRoute::Resolved => none(
            "systemd-resolved runs, and no program asks it: the line hosts: of \
             /etc/nsswitch.conf has no “resolve”, and /etc/resolv.conf does not lead to it",
            "sudo ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf; or set \
             names.route = \"auto\"",
        ),
        _ => none(
            "the line hosts: of /etc/nsswitch.conf has no “files”, so nothing reads /etc/hosts",
            "add “files” to that line",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(nss: &[&str], server: &str, resolved_runs: bool) -> ResolverFacts {
        let nss = nss.iter().map(|s| (*s).to_owned()).collect();
        ResolverFacts { nss, servers: vec![server.to_owned()], search: Vec::new(), resolved_runs }
    }

    fn why(way: Way) -> String {
        match way {
            Way::Nothing(problem) => {
                assert!(!problem.hint.is_empty());
                problem.why
            }
            way => panic!("{way:?}"),
        }
    }

    #[test]
    fn the_best_that_programs_ask_is_taken() {
        use NamesRoute::{Auto, Hosts, None, Resolved};
        let nss_resolve = facts(&["files", "resolve", "dns"], "1.1.1.1", true);
        let stub = facts(&["files", "dns"], "127.0.0.53", true);
        let plain = facts(&["files", "dns"], "1.1.1.1", true);
        let dead = facts(&["files", "resolve", "dns"], "127.0.0.53", false);
        for (facts, auto) in [
            (&nss_resolve, Way::Resolved),
            (&stub, Way::Resolved),
            (&plain, Way::Hosts),
            (&dead, Way::Hosts),
        ] {
            assert_eq!(choose(Auto, facts, true), auto, "{facts:?}");
            assert_eq!(choose(Hosts, facts, true), Way::Hosts);
            assert!(why(choose(Auto, facts, false)).contains("root"));
            assert!(why(choose(None, facts, true)).contains("“none”"));
        }
        assert_eq!(choose(Resolved, &stub, true), Way::Resolved);
        assert!(why(choose(Resolved, &plain, true)).contains("no program asks it"));
        assert!(why(choose(Resolved, &dead, true)).contains("does not run"));
        assert!(
            why(choose(Auto, &self::facts(&["dns"], "1.1.1.1", false), true)).contains("“files”")
        );
    }
}
