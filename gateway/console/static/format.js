// How are times and numbers written? Locale for dates, short words for spans, grouped digits for counts.
import { h } from "./dom.js";

const dates = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const clockTime = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit" });
const whole = new Intl.NumberFormat();
const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });

export const nowS = () => Date.now() / 1000;

export function count(value) {
  return value === null || value === undefined ? "–" : whole.format(value);
}

export function compact(value) {
  return value === null || value === undefined ? "–" : short.format(value);
}

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.round(s / 60)} min`;
  const hours = Math.floor(s / 3600);
  if (hours < 48) {
    const minutes = Math.floor((s % 3600) / 60);
    return minutes && hours < 24 ? `${hours} h ${minutes} min` : `${hours} h`;
  }
  return `${Math.round(s / 86400)} d`;
}

export function countdown(seconds) {
  const s = Math.max(0, Math.ceil(seconds));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
}

export function relative(atS) {
  const away = atS - nowS();
  if (Math.abs(away) < 5) return "now";
  return away > 0 ? `in ${span(away)}` : `${span(-away)} ago`;
}

export function date(atS) {
  return dates.format(new Date(atS * 1000));
}

// The hour for today, the day and the hour for this week, the date beyond.
export function moment(atS) {
  const away = Math.abs(atS - nowS());
  const day = new Date(atS * 1000);
  if (away < 86400 && day.toDateString() === new Date().toDateString()) return clockTime.format(day);
  return away < 6 * 86400 ? weekday.format(day) : dates.format(day);
}

// A <time> that keeps telling the truth: tick() writes it again.
export function when(atS, form = "relative") {
  if (atS === null || atS === undefined) return h("span", { class: "muted" }, "–");
  const element = h("time", { datetime: new Date(atS * 1000).toISOString(), title: date(atS) });
  element.dataset.at = atS;
  element.dataset.form = form;
  write(element);
  return element;
}

function write(element) {
  const atS = Number(element.dataset.at);
  const text = element.dataset.form === "relative" ? relative(atS)
    : element.dataset.form === "countdown" ? countdown(atS - nowS())
    : element.dataset.form === "both" ? `${moment(atS)} (${relative(atS)})` : date(atS);
  if (element.textContent !== text) element.textContent = text;
}

export function tick() {
  for (const element of document.querySelectorAll("time[data-at]")) write(element);
}
