import { spawn } from "node:child_process";

const PROGRAM = "@PROGRAM@";
// The program answers within two seconds, whatever happens.
const LIMIT_MS = 3000;
const LONGEST = 64 * 1024;

// Asks the program, and answers with the object that it says, or with an empty one. Never rejects, and takes no longer
// than the limit.
function ask(event, name, session, cwd, more) {
  return new Promise((resolve) => {
    let child;
    let grace;
    let said = "";
    const finish = (answer) => {
      clearTimeout(limit);
      clearTimeout(grace);
      try {
        // Nothing of it may keep the host from ending: somebody else may hold the pipe.
        child?.stdin?.destroy();
        child?.stdout?.destroy();
        child?.unref();
      } catch {
        // It is gone anyway.
      }
      resolve(answer);
    };
    const limit = setTimeout(() => {
      try {
        child?.kill("SIGKILL");
      } catch {
        // It is gone.
      }
      finish({});
    }, LIMIT_MS);
    const answer = () => {
      try {
        return Object(JSON.parse(said));
      } catch {
        return {};
      }
    };
    try {
      const question = JSON.stringify({ hook_event_name: name, session_id: session, cwd, ...more });
      child = spawn(PROGRAM, ["hook", "--harness", "@HARNESS@", "--event", event], {
        cwd,
        stdio: ["pipe", "pipe", "ignore"],
      });
      // Before anything else, because without a listener an error ends the host.
      child.on("error", () => finish({}));
      child.stdin.on("error", () => {});
      child.stdout.on("error", () => {});
      child.stdout.setEncoding("utf8");
      child.stdout.on("data", (text) => {
        if (said.length < LONGEST) said += text;
      });
      // The end of the program is enough, a little later.
      child.on("exit", () => {
        grace = setTimeout(() => finish(answer()), 100);
      });
      child.on("close", () => finish(answer()));
      child.stdin.end(question);
    } catch {
      finish({});
    }
  });
}

// What the program says, if it is words.
const words = (said) => (typeof said === "string" && said !== "" ? said : undefined);

