// fm-watch: hooks for OpenCode. `fm-watch hooks uninstall opencode` removes this file; install writes it anew.
//
// OpenCode has no shell hooks, so this asks the program at the moments that matter: a new session, a shell command, and
// a session that has become idle. Whatever goes wrong here is silence: no session may suffer from its supervision.

// @ASK@
export const FmWatch = async ({ client, directory }) => {
  // A session inside a session answers to its parent.
  const inner = new Set();
  // A turn that a person or an error has ended is not answered: whoever stopped it does not want another one.
  const stopped = new Set();
  // The end of a turn is asked about once at a time.
  const asking = new Set();
  const text = (said) => [{ type: "text", text: said }];

  const begin = async (info) => {
    const id = info?.id;
    if (!id) return;
    if (info.parentID) {
      inner.add(id);
      return;
    }
    const context = words((await ask("session-start", "SessionStart", id, directory)).context);
    if (context) await client.session.prompt({ path: { id }, body: { noReply: true, parts: text(context) } });
  };

  const end = async (id) => {
    if (!id || inner.has(id) || stopped.delete(id) || asking.has(id)) return;
    asking.add(id);
    const answer = await ask("turn-end", "Stop", id, directory);
    asking.delete(id);
    const followUp = words(answer.follow_up);
    if (followUp) await client.session.promptAsync({ path: { id }, body: { parts: text(followUp) } });
  };

  return {
    event: async (input) => {
      try {
        const { type, properties } = input?.event ?? {};
        const id = properties?.sessionID;
        if (type === "session.created") {
          await begin(properties?.info);
        } else if (type === "session.deleted") {
          for (const set of [inner, stopped]) set.delete(properties?.info?.id);
        } else if (type === "session.error" && id) {
          stopped.add(id);
        } else if (type === "session.status" && properties?.status?.type === "busy") {
          stopped.delete(id);
        } else if (type === "session.status" && properties?.status?.type === "idle") {
          await end(id);
        }
      } catch {
        // Silence, as promised above.
      }
    },

    "tool.execute.before": async (input, output) => {
      let deny;
      try {
        if (input?.tool !== "bash") return;
        const tool = { tool_name: "bash", tool_input: { command: output?.args?.command } };
        deny = words((await ask("pre-tool", "PreToolUse", input.sessionID, directory, tool)).deny);
      } catch {
        return;
      }
      // The one thing that is thrown on purpose: it is how a tool is refused.
      if (deny) throw new Error(deny);
    },
  };
};
