// fm-watch: hooks for Pi. `fm-watch hooks uninstall pi` removes this file; install writes it anew.
//
// Pi has no shell hooks, so this asks the program at the moments that matter: a new session, a shell command, and an
// agent that has settled. Whatever goes wrong here is silence: no session may suffer from its supervision.

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
      child = spawn(PROGRAM, ["hook", "--harness", "pi", "--event", event], {
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

export default function (pi) {
  // What is needed of a context is read at once: it must not be touched any more after its session was replaced.
  const place = (ctx) => {
    try {
      return { session: ctx?.sessionManager?.getSessionId?.(), cwd: ctx?.cwd };
    } catch {
      return { session: undefined, cwd: undefined };
    }
  };

  pi.on("session_start", async (_event, ctx) => {
    const { session, cwd } = place(ctx);
    const { context } = await ask("session-start", "SessionStart", session, cwd);
    try {
      if (context) {
        const message = { customType: "fm-watch", content: context, display: true };
        pi.sendMessage(message, { triggerTurn: false, deliverAs: "nextTurn" });
      }
    } catch {
      // The session is gone.
    }
  });

  pi.on("tool_call", async (event, ctx) => {
    if (event?.toolName !== "bash") return undefined;
    const { session, cwd } = place(ctx);
    const tool = { tool_name: "bash", tool_input: { command: event.input?.command } };
    const { deny } = await ask("pre-tool", "PreToolUse", session, cwd, tool);
    return deny ? { block: true, reason: deny } : undefined;
  });

  pi.on("agent_settled", async (_event, ctx) => {
    const { session, cwd } = place(ctx);
    const { follow_up } = await ask("turn-end", "Stop", session, cwd);
    try {
      if (follow_up) pi.sendUserMessage(follow_up, { deliverAs: "followUp" });
    } catch {
      // The session is gone.
    }
  });
}
