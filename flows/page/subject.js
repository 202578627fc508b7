element.addEventListener("click", (event) => {
  const choice = event.target.closest("[data-about]");
  if (choice) trigger("choose", { index: choice.dataset.about === "" ? null : Number(choice.dataset.about) });
});
