watch("value", () => {
  const said = element.querySelector(".h-talk");
  if (said) said.scrollTop = said.scrollHeight;
});
