// What would be refused is not uploaded first.
document.holmesLimits?.abort();
document.holmesLimits = new AbortController();
const options = { capture: true, signal: document.holmesLimits.signal };

const refused = (event, target, files) => {
  const file = files?.[0];
  if (!file || !target.closest?.("#h-upload")) return false;
  const suffix = file.name.slice(file.name.lastIndexOf(".")).toLowerCase();
  if (file.size <= props.max_bytes && props.suffixes.includes(suffix)) return false;
  event.preventDefault();
  event.stopImmediatePropagation();
  trigger("refuse", { name: file.name, bytes: file.size });
  return true;
};

document.addEventListener("change", (event) => {
  if (refused(event, event.target, event.target.files)) event.target.value = "";
}, options);
document.addEventListener("drop", (event) => refused(event, event.target, event.dataTransfer?.files), options);
