// Mounts NiiVue in the component. The library comes from this page's own server.
const LEFT = "Neurological convention: the patient's left is on the left.";
// As in the report's picture: red above 0, blue below, faint where the map is small.
const OLDER = { R: [253, 244, 230, 214], G: [219, 165, 97, 40], B: [199, 130, 70, 50] };
const YOUNGER = { R: [209, 146, 67, 33], G: [229, 197, 147, 102], B: [240, 222, 195, 190] };
const STEPS = { A: [0, 64, 128, 255], I: [0, 85, 170, 255] };
const RIGHT = "Radiological convention: the patient's left is on the right.";

async function show(root, data, report) {
  const canvas = root.querySelector("canvas");
  if (!document.createElement("canvas").getContext("webgl2")) {
    root.querySelector(".viewer").classList.add("hidden");
    report(false);
    return null;
  }
  // The file sets a global name; a second import does nothing.
  await import(new URL(data.library, document.baseURI).href);
  const { Niivue } = globalThis.niivue;
  const place = root.querySelector(".place");
  const say = () => { place.textContent = `${text.mm} ${data.radiological ? RIGHT : LEFT}`; };
  const text = { mm: "" };
  const view = new Niivue({
    backColor: [0, 0, 0, 1], crosshairColor: [0.9, 0.62, 0, 0.8], crosshairWidth: 0.5,
    isRadiologicalConvention: data.radiological, show3Dcrosshair: false, multiplanarShowRender: 0, multiplanarPadPixels: 16,
    dragAndDropEnabled: false,
    loadingText: "loading the scan", sagittalNoseLeft: true, showAllOrientationMarkers: true, logLevel: "error",
    onLocationChange: (where) => {
      text.mm = `x ${where.mm[0].toFixed(0)}, y ${where.mm[1].toFixed(0)}, z ${where.mm[2].toFixed(0)} mm (MNI).`;
      canvas.dataset.mm = Array.from(where.mm).slice(0, 3).map((v) => v.toFixed(1)).join(",");
      say();
    },
  });
  await view.attachToCanvas(canvas);
  view.setMultiplanarLayout(3);
  view.setSliceType(view.sliceTypeMultiplanar);
  const load = (path) => new URL(path, document.baseURI).href;
  const volumes = [{ url: load(data.image), name: "image.nii.gz", colormap: "gray", cal_min: 0, cal_max: 255 }];
  if (data.overlay) {
    view.addColormap("older", { ...OLDER, ...STEPS });
    view.addColormap("younger", { ...YOUNGER, ...STEPS });
    volumes.push({ url: load(data.overlay), name: "map.nii.gz", colormap: "older", colormapNegative: "younger", opacity: 0.8 });
  }
  await view.loadVolumes(volumes);
  if (data.overlay) {
    const map = view.volumes[1];
    // Type 1: the fainter the smaller, opaque at the limit. Equal ends would hide one side.
    const top = data.limit, opaque = top * 0.999;
    map.colormapType = 1;
    map.cal_min = opaque; map.cal_max = top;
    map.cal_minNeg = -top; map.cal_maxNeg = -opaque;
    view.updateGLVolume();
  }
  canvas.dataset.ready = "true";
  canvas.dataset.overlay = data.overlay ? "on" : "none";
  const on = (name, kind, act) => root.querySelector(name).addEventListener(kind, act);
  const window_ = () => {
    const low = +root.querySelector(".low").value;
    view.volumes[0].cal_min = low;
    view.volumes[0].cal_max = Math.max(low + 1, +root.querySelector(".high").value);
    canvas.dataset.window = `${view.volumes[0].cal_min},${view.volumes[0].cal_max}`;
    view.updateGLVolume();
  };
  const strength = () => {
    const shown = root.querySelector(".toggle").checked;
    view.setOpacity(1, shown ? +root.querySelector(".opacity").value : 0);
    canvas.dataset.overlay = shown ? "on" : "off";
  };
  on(".low", "input", window_);
  on(".high", "input", window_);
  on(".preset", "change", (event) => {
    [root.querySelector(".low").value, root.querySelector(".high").value] = event.target.value.split(",");
    window_();
  });
  const zoom = (factor) => {
    const now = view.scene.pan2Dxyzmm;
    const next = Math.min(6, Math.max(1, now[3] * factor));
    // At the whole view nothing is moved aside.
    view.setPan2Dxyzmm(next === 1 ? [0, 0, 0, 1] : [now[0], now[1], now[2], next]);
    canvas.dataset.zoom = next.toFixed(2);
  };
  on(".closer", "click", () => zoom(1.4));
  on(".farther", "click", () => zoom(1 / 1.4));
  on(".centre", "click", () => { view.scene.crosshairPos = [0.5, 0.5, 0.5]; view.drawScene(); view.createOnLocationChange(); });
  if (data.overlay) { on(".toggle", "change", strength); on(".opacity", "input", strength); }
  const steps = {
    ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0],
    PageUp: [0, 0, 1], PageDown: [0, 0, -1],
  };
  canvas.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    view.moveCrosshairInVox(...step);
  }, true);
  view.createOnLocationChange();
  return view;
}

export default function (component) {
  const { parentElement: root, data, setStateValue } = component;
  const canvas = root.querySelector("canvas");
  if (!canvas) return;
  // Streamlit calls again at each rerun: the same scan is left as the reader has set it.
  if (canvas.dataset.image === data.image) return;
  canvas.dataset.image = data.image;
  root.querySelectorAll(".mapped").forEach((part) => part.classList.toggle("hidden", !data.overlay));
  if (data.overlay) {
    [".low-words", ".high-words"].forEach((name, n) => { root.querySelector(name).textContent = data.legend[n]; });
    root.querySelector(".least").textContent = `−${data.limit.toPrecision(2)}`;
    root.querySelector(".most").textContent = `+${data.limit.toPrecision(2)} ${data.unit}`;
  }
  show(root, data, (works) => setStateValue("webgl", works)).catch((problem) => {
    console.error("viewer:", problem);
    root.querySelector(".viewer").classList.add("hidden");
    setStateValue("webgl", false);
  });
}
