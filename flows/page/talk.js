watch("value", () => {
  const said = element.querySelector(".h-talk");
  if (said) said.scrollTop = said.scrollHeight;
});

element.addEventListener("click", (event) => {
  const suggested = event.target.closest("[data-ask]");
  if (suggested) trigger("suggest", { question: suggested.dataset.ask });
});
