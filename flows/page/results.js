// The page may show this part anew: the listeners of the one before end.
document.holmesResults?.abort();
document.holmesResults = new AbortController();
const options = { capture: true, signal: document.holmesResults.signal };

const player = () => document.querySelector("#h-player video");
const all = (selector) => element.querySelectorAll(selector);

const seek = (time) => {
  const video = player();
  if (!video) return;
  video.currentTime = time;
  video.play().catch(() => {});
};

element.addEventListener("click", (event) => {
  const target = event.target.closest("[data-span]");
  if (target) {
    seek(Number(target.dataset.seek));
    trigger("choose", { index: Number(target.dataset.span) });
    return;
  }
  const plot = event.target.closest(".h-plot");
  if (plot) {
    const box = plot.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * Number(plot.closest("[data-duration]").dataset.duration));
  }
});

// Media events do not bubble, but they can be caught on their way down.
document.addEventListener("timeupdate", (event) => {
  const video = event.target;
  const timeline = element.querySelector("[data-duration]");
  if (video !== player() || !timeline) return;
  const line = element.querySelector(".h-head-line");
  line.hidden = false;
  line.style.left = `${Math.min(100, (100 * video.currentTime) / Number(timeline.dataset.duration))}%`;
  for (const target of all("[data-span]")) {
    const inside = video.currentTime >= Number(target.dataset.seek) && video.currentTime < Number(target.dataset.end);
    target.classList.toggle("playing", inside);
  }
}, options);

document.addEventListener("error", (event) => {
  if (event.target === player()) document.querySelector(".h-unplayable").hidden = false;
}, options);
