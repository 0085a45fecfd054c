// fm-watch: hooks for OpenCode. `fm-watch hooks uninstall opencode` removes this file; install writes it anew.
//
// OpenCode has no shell hooks, so this asks the program at the moments that matter: a new session, a shell command, and
// a session that has become idle. Whatever goes wrong here is silence: no session may suffer from its supervision.

import { spawn } from "node:child_process";

const PROGRAM = "@PROGRAM@";
const LIMIT_MS = 5000;
const LONGEST = 64 * 1024;

// Asks the program, and answers with what it says, or with nothing.
function ask(event, name, session, cwd, more) {
  return new Promise((resolve) => {
    let child;
    let said = "";
    const finish = () => {
      clearTimeout(limit);
      try {
        resolve(JSON.parse(said) ?? {});
      } catch {
        resolve({});
      }
    };
    const limit = setTimeout(() => {
      said = "";
      child?.kill("SIGKILL");
      finish();
    }, LIMIT_MS);
    try {
      child = spawn(PROGRAM, ["hook", "--harness", "opencode", "--event", event], {
        cwd,
        stdio: ["pipe", "pipe", "ignore"],
      });
    } catch {
      finish();
      return;
    }
    child.on("error", finish);
    child.stdout.on("data", (bytes) => {
      if (said.length < LONGEST) said += bytes;
    });
    // Somebody else may keep the pipe open: the end of the program is enough, a little later.
    child.on("exit", () => setTimeout(finish, 100));
    child.on("close", finish);
    child.stdin.on("error", () => {});
    child.stdin.end(JSON.stringify({ hook_event_name: name, session_id: session, cwd, ...more }));
  });
}

export const FmWatch = async ({ client, directory }) => {
  // A session inside a session answers to its parent.
  const inner = new Set();
  const text = (words) => [{ type: "text", text: words }];

  return {
    event: async ({ event }) => {
      try {
        const facts = event?.properties ?? {};
        if (event?.type === "session.created" && facts.info?.id) {
          const id = facts.info.id;
          if (facts.info.parentID) {
            inner.add(id);
            return;
          }
          const { context } = await ask("session-start", "SessionStart", id, directory);
          if (context) await client.session.prompt({ path: { id }, body: { noReply: true, parts: text(context) } });
        } else if (event?.type === "session.status" && facts.status?.type === "idle") {
          const id = facts.sessionID;
          if (!id || inner.has(id)) return;
          const { follow_up } = await ask("turn-end", "Stop", id, directory);
          if (follow_up) await client.session.promptAsync({ path: { id }, body: { parts: text(follow_up) } });
        }
      } catch {
        // Silence, as promised above.
      }
    },

    "tool.execute.before": async (input, output) => {
      if (input?.tool !== "bash") return;
      const tool = { tool_name: "bash", tool_input: { command: output?.args?.command } };
      const { deny } = await ask("pre-tool", "PreToolUse", input.sessionID, directory, tool);
      if (deny) throw new Error(deny);
    },
  };
};
