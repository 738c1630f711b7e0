// Shows the page as it is now, whenever the service says that something has changed. Focus and scroll stay.
"use strict";
const show = async () => {
  const answer = await fetch(location.href, { cache: "no-store" });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const focused = document.activeElement && document.activeElement.id;
  document.title = fresh.title;
  document.querySelector("main").replaceWith(fresh.querySelector("main"));
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
};
const live = document.getElementById("live");
const events = new EventSource("/events");
let due = false;
events.onmessage = () => {
  live.textContent = "live";
  if (due || document.hidden) return;
  due = true;
  setTimeout(() => { due = false; show().catch(() => {}); }, 1000);
};
events.onerror = () => { live.textContent = "not live: the service does not answer"; };
document.addEventListener("visibilitychange", () => { if (!document.hidden) show().catch(() => {}); });
