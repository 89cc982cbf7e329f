// A worker for pages opened from the file system, where browsers refuse to start one: its script runs in a hidden frame
// of the same page. The search's own code looks for the name IFrameWorker to find its scripts.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      const inner = frame.contentWindow
      const load = source =>
        new Promise((resolve, reject) => {
          const script = inner.document.createElement("script")
          script.src = new URL(source, document.baseURI).href
          script.onload = resolve
          script.onerror = reject
          inner.document.head.append(script)
        })
      inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      inner.importScripts = async (...sources) => {
        for (const source of sources) await load(source)
      }
      this.inner = inner
      this.ready = load(url)
    }
    postMessage(data) {
      this.ready.then(() => this.inner.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
  window.Worker = window.IFrameWorker
}
