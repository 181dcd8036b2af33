// What do the API's words mean to a person? Codes of failures, states, roles, and who may do what.
// The tables have no prototype: a word of somebody else's, such as "constructor", finds nothing in them.
// The table of permissions repeats the server's (a test compares them); the server decides, this only hides.
import { span } from "./format.js";

const READS = ["accounts.read", "tenants.read", "keys.read", "audit.read", "admins.read", "tasks.read"];
const WRITES = ["accounts.write", "tenants.write", "keys.write", "tasks.write"];

export const PERMISSIONS = {
  __proto__: null,
  owner: ["self", ...READS, ...WRITES, "admins.write"],
  admin: ["self", ...READS, ...WRITES],
  auditor: ["self", ...READS],
  member: ["self", "tasks.read", "tasks.write"],
};

export const ROLES = {
  __proto__: null,
  owner: "Everything, other administrators included",
  admin: "Accounts, tenants, keys and sign-ins; no change of administrators",
  auditor: "Reads everything, changes nothing",
  member: "His own profile, and the tasks of his tenant",
};

export const STATES = {
  __proto__: null,
  ready: ["Ready", "good"],
  cooling: ["Resting", "warn"],
  open: ["Out", "bad"],
  half_open: ["Being tried", "warn"],
  disabled: ["Disabled", "off"],
  needs_reauth: ["Needs sign-in", "bad"],
};

export const CAUSES = {
  __proto__: null,
  usage_limit: "The plan's window is full",
  rate_limited: "Asked to wait by the backend",
  rate_limited_bare: "Asked to slow down by the backend",
  overloaded: "The backend was overloaded",
  broken: "Several failures in a row",
  auth: "Its sign-in was refused",
  blocked: "Refused by country, workspace or policy",
  model: "The plan lacks the model",
  route: "The backend could not be reached",
  reserve: "Its reserve is kept",
};

const ERRORS = {
  __proto__: null,
  unreachable: "The gateway does not answer. Check the connection; nothing is known to have changed.",
  wrong_credentials: "The name, the password or the code is wrong.",
  code_required: "This administrator signs in with a one-time code. Enter the code of the authenticator app.",
  login_throttled: "Too many failed sign-ins.",
  link_invalid: "This link was used, has expired, or is not whole. Ask an owner for a new one.",
  not_signed_in: "The session has ended. Sign in again.",
  csrf_failed: "The page is too old for this session. Load it again and repeat.",
  https_required: "The console is served over https, or on loopback only. Open it by its https address.",
  invalid_api_key: "This key is not accepted.",
  forbidden: "Your role may not do this.",
  not_found: "It is not there any more. Somebody may have removed it.",
  conflict: "It has changed meanwhile, or is busy. The page shows it as it is now; look and repeat.",
  last_owner: "This is the last owner who can sign in. Make another owner first.",
  invalid_request: "Something in the form cannot be accepted.",
  invalid_json: "The gateway could not read the request.",
  body_too_large: "This is too much for one request. Send fewer or smaller files.",
  upstream_error: "The issuer or the backend did not do it.",
  upstream_blocked: "The backend refuses this network.",
  upstream_timeout: "The backend took too long. Try again.",
  rate_limited: "Too many requests.",
  overloaded: "The gateway is busy. Try again in a moment.",
  draining: "The gateway is restarting. Try again in a moment.",
  store_unavailable: "The gateway cannot reach its store. Nothing was changed; try again.",
  not_configured: "This is not set up on the gateway.",
  request_timeout: "The request took too long to arrive. Try again.",
  internal_error: "The gateway failed on this. Its log has the details under the request id.",
  queue_full: "Too many tasks wait already.",
  unsupported_media_type: "This kind of file is not taken. Send a zip or a tar.",
  method_not_allowed: "The gateway does not offer this. It may be of another version than this page; load it again.",
};

// What to show of a failure: what it means, then what the server says of it when that adds something.
export function explain(error) {
  const meaning = ERRORS[error.code];
  const parts = [];
  if (meaning) parts.push(meaning);
  if (error.message && error.message !== meaning) parts.push(error.message);
  if (error.retryAfterS) parts.push(`Try again in ${span(error.retryAfterS)}.`);
  if (parts.length === 0) parts.push(`It failed (${error.code || "unknown"}).`);
  return parts.join(" ");
}

export const TASK_STATES = {
  __proto__: null,
  created: ["Created", "off"],
  queued: ["Waiting", "off"],
  setting_up: ["Setting up", "warn"],
  running: ["Running", "warn"],
  ready: ["To be reviewed", "good"],
  approved: ["Approved", "good"],
  rejected: ["Rejected", "bad"],
  applied: ["Applied", "good"],
  failed: ["Failed", "bad"],
  cancelled: ["Cancelled", "off"],
};

// How an attempt ended, and what that means for whoever asked.
export const ENDS = {
  __proto__: null,
  done: "Done",
  failed: "The agent or a script failed",
  timed_out: "Its time was up",
  out_of_memory: "It ran out of memory",
  limit: "It hit a limit of disk, processes or output",
  cancelled: "It was cancelled",
  lost: "Its container or its worker was lost",
  engine_unavailable: "No container engine could run it",
  input_refused: "Its source cannot be had, or is refused",
  budget: "Its tokens are spent",
};

export const LOGIN_STATES = {
  __proto__: null,
  pending: ["Waiting for you", "warn"],
  done: ["Done", "good"],
  failed: ["Failed", "bad"],
  expired: ["Expired", "bad"],
  cancelled: ["Cancelled", "off"],
};

export const OUTCOMES = {
  __proto__: null,
  imported: ["Added", "good"],
  updated: ["Updated", "good"],
  unchanged: ["Unchanged", "off"],
  refused: ["Refused", "bad"],
};

export const SCOPES = {
  __proto__: null,
  relay: "Send model requests",
  tasks: "Run and read tasks",
  metrics: "Read the metrics",
  admin: "Use the admin API",
};

export function windowName(window) {
  const minutes = window.window_minutes;
  if (minutes === 300) return "5 hours";
  if (minutes === 10080) return "Weekly";
  if (minutes) return minutes % 1440 === 0 ? `${minutes / 1440} days` : minutes % 60 === 0 ? `${minutes / 60} hours` : `${minutes} min`;
  return { __proto__: null, primary: "5 hours", secondary: "Weekly" }[window.name] ?? window.name;
}
