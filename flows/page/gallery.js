element.addEventListener("click", (event) => {
  const card = event.target.closest("[data-choose]");
  if (card) trigger("choose", { index: Number(card.dataset.choose) });
});
