// What may be done with a task as it stands: each act that its state allows is a button, and no other is.
import { h, replace, said } from "../dom.js";
import { at, get, post, remove } from "../api.js";
import { when } from "../format.js";
import { act, ask, button, copyable, dialog, empty, failed, field, form, menu, notice, table, toast } from "../widgets.js";

const LIVES = [["3600", "1 hour"], ["86400", "1 day"], ["604800", "7 days"], ["2592000", "30 days"], ["7776000", "90 days"]];
const RUNS = ["created", "queued", "setting_up", "running"];
const AGAIN = ["ready", "rejected", "failed", "cancelled"];

// took(task): shows what the act made of it.
export function actsOf(page, task, path, took) {
  const is = (...states) => states.includes(task.state);
  const run = (name, done, body) => async (event) => {
    const opener = event.currentTarget ?? event;
    const changed = await act(opener, () => post(path(name), body), done);
    took(changed ?? await get(path(), { signal: page.signal }).catch(() => task));
  };
  const sent = async (name, body, done) => { const changed = await post(path(name), body); toast(done); took(changed); };
  const more = [
    is(...AGAIN) && ["Retry: one more attempt", (opener) => run("retry", "One more attempt waits")(opener)],
    ["Share by a link", () => share(page, path)],
    [task.archived ? "Put back into the lists" : "Archive", (opener) => run("archive", task.archived ? "It is in the lists again" : "Archived", { archived: !task.archived })(opener)],
  ].filter(Boolean);
  return h("div", { class: "actions" },
    is("ready") && button("Approve", () => approve(task, sent), { class: "primary", "data-act": "approve" }),
    is("approved") && button("Mark as applied", run("applied", "Marked as applied"), { class: "primary", "data-act": "applied" }),
    is("ready", "approved") && button("Reject", () => reject(sent), { "data-act": "reject" }),
    is("ready") && task.review?.claimed_by !== page.session.principal.name && button("Claim the review", run("claim", "You review it"), { "data-act": "claim" }),
    is(...AGAIN) && task.attempts.some((one) => one.state === "ended") && button("Follow up", () => followUp(sent), { "data-act": "follow-up" }),
    is(...RUNS) && button("Cancel", () => ask({
      title: "Cancel the task", submit: "Cancel the task", text: "What runs is asked to stop. The diff as far as it got is kept.",
      send: () => sent("cancel", {}, "It was asked to stop"),
    }), { class: "danger-text", "data-act": "cancel" }),
    menu("More acts", more));
}

function approve(task, sent) {
  const good = task.attempts.filter((one) => one.rank !== null).sort((a, b) => a.rank - b.rank);
  dialog("Approve", (close) => form({
    submit: "Approve", cancel: button("Cancel", close),
    fields: [
      h("fieldset", {}, h("legend", {}, "Which attempt is taken"), good.map((one) => choice(one, task.chosen ?? good[0].number))),
      h("p", { class: "muted" }, "Where two people must agree, the task is approved when the second one has."),
    ],
    send: async (data) => {
      await sent("approve", { attempt: Number(data.get("attempt")) }, "You have approved it");
      close();
    },
  }));
}

function choice(one, chosen) {
  const label = h("label", {}, h("input", { type: "radio", name: "attempt", value: one.number, checked: one.number === chosen, required: true }),
    h("span", {}, `Attempt ${one.number}, rank ${one.rank}`, one.reasons.length > 0 && h("span", { class: "muted" }, ": ", said(one.reasons.join("; ")))));
  label.className = "choice";
  return label;
}

function reject(sent) {
  dialog("Reject", (close) => form({
    submit: "Reject", danger: true, cancel: button("Cancel", close),
    fields: [field("Why", "reason", { kind: "textarea", maxlength: 2000, rows: 4, spellcheck: "true", hint: "Shown with the task." })],
    send: async (data) => { await sent("reject", { reason: data.get("reason").trim() }, "Rejected"); close(); },
  }));
}

function followUp(sent) {
  dialog("Follow up", (close) => form({
    submit: "Ask for it", cancel: button("Cancel", close),
    fields: [field("What else is to be done", "prompt", { kind: "textarea", required: true, rows: 6, spellcheck: "true", hint: "One more attempt goes on from the best one, with the same conversation." })],
    send: async (data) => { await sent("follow-up", { prompt: data.get("prompt") }, "One more attempt waits"); close(); },
  }));
}

function share(page, path) {
  dialog("Share by a link", (close) => {
    const list = h("div", {});
    const made = h("div", {});
    const load = async () => {
      const { items } = await get(path("share"), { signal: page.signal });
      replace(list, items.length === 0 ? empty("No link leads here") : table("Links", [
        ["Made by", (one) => said(one.made_by)],
        ["Ends", (one) => when(one.expires_at_s)],
        ["", (one) => {
          const revoke = button("Take back", () => act(revoke, async () => { await remove(`${path("share")}${at(one.id)}`); await load(); }, "The link leads nowhere now"),
            { class: "danger-text", "aria-label": `Take back the link of ${one.made_by}` });
          return revoke;
        }, "end"],
      ], items));
    };
    load().catch(failed);
    return h("div", {},
      form({
        submit: "Make a link", cls: "inline",
        fields: [field("It ends after", "life", { kind: "select", choices: LIVES, value: "86400" })],
        send: async (data) => {
          const { url } = await post(path("share"), { expires_in_s: Number(data.get("life")) });
          replace(made, notice("warn", "Whoever has this link reads the task: words, log, diff and files. It is shown this once."), copyable(url, "Link", "clip"));
          await load();
        },
      }), made, list, h("div", { class: "actions" }, button("Close", close)));
  });
}
