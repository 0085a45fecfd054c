//! The service as an agent of launchd.
//!
//! `KeepAlive` with `SuccessfulExit` false is `Restart=on-failure` of systemd, and `AbandonProcessGroup` its
//! `KillMode=process`. launchd does not listen to the loop; the verdict of `status` still does.
//!
//! Source: `launchd.plist(5)`.

use super::identity;
use super::spec::ServiceSpec;

/// The file's name.
pub fn file_name(plan: &ServiceSpec) -> String {
    format!("{}.plist", plan.label)
}

/// The agent's text.
pub fn agent(plan: &ServiceSpec) -> String {
    let words: Vec<String> =
        plan.command.iter().map(|word| format!("    <string>{}</string>\n", escaped(word))).collect();
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n\
         <dict>\n  \
           <key>Comment</key>\n  <string>{mark}. To remove it: {removal}</string>\n  \
           <key>Label</key>\n  <string>{label}</string>\n  \
           {search}\
           <key>ProgramArguments</key>\n  <array>\n{words}  </array>\n  \
           <key>RunAtLoad</key>\n  <true/>\n  \
           <key>KeepAlive</key>\n  <dict>\n    <key>SuccessfulExit</key>\n    <false/>\n  </dict>\n  \
           <key>AbandonProcessGroup</key>\n  <true/>\n  \
           <key>ExitTimeOut</key>\n  <integer>{leaves_within}</integer>\n  \
           <key>Umask</key>\n  <integer>63</integer>\n\
         </dict>\n\
         </plist>\n\
         <!-- {seal} -->\n",
        mark = escaped(&plan.mark()),
        removal = escaped(&plan.removal),
        label = plan.label,
        words = words.concat(),
        leaves_within = plan.leaves_within.as_secs().max(1),
        search = plan.search.as_deref().map_or_else(String::new, search),
        seal = identity::blank_seal(),
    );
    identity::sealed(&text)
}

/// Whether a line tells where programs are found, which is another place for each shell.
pub(super) fn is_search(line: &str) -> bool {
    line.trim_start().starts_with(SEARCH)
}

const SEARCH: &str = "<key>EnvironmentVariables</key> <dict><key>PATH</key>";

fn search(path: &str) -> String {
    format!("{SEARCH} <string>{}</string></dict>\n  ", escaped(path))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_to_xml_is_escaped() {
        assert_eq!(escaped("/a&b/<c>"), "/a&amp;b/&lt;c&gt;");
    }
}
