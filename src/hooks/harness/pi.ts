// fm-watch: hooks for Pi. `fm-watch hooks uninstall pi` removes this file; install writes it anew.
//
// Pi has no shell hooks, so this asks the program at the moments that matter: a new session, a shell command, and an
// agent that has settled. Whatever goes wrong here is silence: no session may suffer from its supervision.

// @ASK@
const STAYS_MS = 1000;

// What is needed of a context is read at once: it must not be touched any more after its session was replaced.
function place(ctx) {
  try {
    return { session: ctx?.sessionManager?.getSessionId?.(), cwd: ctx?.cwd };
  } catch {
    return {};
  }
}

export default function (pi) {
  // Nothing that is thrown gets out, from a session that is gone for example.
  const on = (name, handler) => {
    try {
      pi.on(name, async (event, ctx) => {
        try {
          return await handler(event, place(ctx));
        } catch {
          return undefined;
        }
      });
    } catch {
      // A Pi without this event.
    }
  };

  on("session_start", async (_event, { session, cwd }) => {
    const context = words((await ask("session-start", "SessionStart", session, cwd)).context);
    if (!context) return;
    const message = { customType: "fm-watch", content: context, display: true };
    await pi.sendMessage(message, { triggerTurn: false, deliverAs: "nextTurn" });
  });

  on("tool_call", async (event, { session, cwd }) => {
    if (event?.toolName !== "bash") return undefined;
    const tool = { tool_name: "bash", tool_input: { command: event.input?.command } };
    const deny = words((await ask("pre-tool", "PreToolUse", session, cwd, tool)).deny);
    return deny ? { block: true, reason: deny } : undefined;
  });

  const end = async ({ session, cwd }) => {
    const followUp = words((await ask("turn-end", "Stop", session, cwd)).follow_up);
    if (followUp) await pi.sendUserMessage(followUp, { deliverAs: "followUp" });
  };

  // An agent that has ended may go on by itself, and one that has settled does not. Older releases of Pi do not say when
  // it has settled; there, one that has ended and stays so for a while has.
  let settles = false;
  let pending;
  on("agent_settled", async (_event, at) => {
    settles = true;
    clearTimeout(pending);
    await end(at);
  });
  on("agent_end", async (_event, at) => {
    clearTimeout(pending);
    if (settles) return;
    pending = setTimeout(() => void end(at).catch(() => {}), STAYS_MS);
    pending.unref?.();
  });
  on("agent_start", async () => clearTimeout(pending));
  on("session_shutdown", async () => clearTimeout(pending));
}
