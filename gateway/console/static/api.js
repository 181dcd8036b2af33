// How is the gateway called? One function; every failure is an ApiError with the API's own code and words.
// Paths are the admin API's, but for those that begin with /v1/: tasks, environments and uploads have that door.

let csrf = null;
let onSignedOut = () => {};

export class ApiError extends Error {
  constructor(status, code, message, param, retryAfterS) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
    this.retryAfterS = retryAfterS;
  }
}

export function setCsrf(token) {
  csrf = token;
}

export function whenSignedOut(callback) {
  onSignedOut = callback;
}

// body: an object, or a Blob that is sent as it is under its own type. options.read: what makes something of a good answer.
export async function call(method, path, body, options = {}) {
  const headers = { accept: "application/json", ...options.headers };
  if (body !== undefined) headers["content-type"] = body instanceof Blob ? body.type : "application/json";
  if (csrf !== null && method !== "GET") headers["x-csrf-token"] = csrf;
  let response;
  try {
    response = await fetch(path.startsWith("/v1/") ? path : `/admin/api${path}`, {
      method, headers, signal: options.signal, credentials: "same-origin", redirect: "error", cache: "no-store",
      body: body === undefined || body instanceof Blob ? body : JSON.stringify(body),
    });
    if (response.ok && options.read) return await options.read(response);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "", null, null);
  }
  if (response.status === 204) return null;
  const content = await json(response);
  if (response.ok && content !== null) return content;
  const said = content?.error ?? {};
  const after = Number(response.headers.get("retry-after"));
  const failure = new ApiError(
    response.status, text(said.code) || `http_${response.status}`, text(said.message), text(said.param) || null,
    Number.isFinite(after) && after > 0 ? after : null,
  );
  if (failure.code === "not_signed_in" && !options.signingIn) onSignedOut();
  throw failure;
}

async function json(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return null;
  }
}

function text(value) {
  return typeof value === "string" ? value : "";
}

export const get = (path, options) => call("GET", path, undefined, options);
export const post = (path, body = {}, options) => call("POST", path, body, options);
export const patch = (path, body) => call("PATCH", path, body);
export const put = (path, body) => call("PUT", path, body);
export const remove = (path, body) => call("DELETE", path, body);

// A path of the API with its query; members that are empty are left out.
export function query(path, members) {
  const kept = Object.entries(members).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return kept.length === 0 ? path : `${path}?${new URLSearchParams(kept)}`;
}

export const at = (...parts) => "/" + parts.map(encodeURIComponent).join("/");
