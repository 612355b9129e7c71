// In a workshop: buttons to ask for help and to hand in, and the instructor's announcements.
// `load` returns a module of JupyterLab's own, `request` the server's answer.
window._JUPYTERLAB.dltlab.classroom = async (app, load, request) => {
  const POLL_MILLISECONDS = 2000;
  const LAB = /^\d\d_\w+$/;
  const { Widget } = await load("@lumino/widgets");
  const buttons = new Set(); // those that ask for help
  let lastShown = 0;

  // Send a request to dltlab/classroom.py; return its answer, or null where it fails.
  async function ask(action, body) {
    const init = body ? { method: "POST", body: JSON.stringify(body) } : {};
    const response = await request(app, `dltlab/classroom${action}`, init);
    const answer = await response?.json().catch(() => null);
    return answer && { ...answer, ok: response.ok };
  }

  function notify(message, type, autoClose) {
    app.commands.execute("apputils:notify", { message, type, options: { autoClose } });
  }

  function showState(news) {
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(news.hand_raised));
      button.textContent = news.hand_raised ? "Help is coming" : "I need help";
    }
    for (const { number, text } of news.announcements) {
      if (number > lastShown) {
        lastShown = number;
        notify(text, "info", false);
        ask("/read", { number });
      }
    }
  }

  async function refresh() {
    if (document.hidden) return; // an announcement waits until somebody looks
    const news = await ask("");
    if (news?.ok) showState(news);
  }

  async function toggleHelp(event) {
    const raised = event.currentTarget.getAttribute("aria-pressed") !== "true";
    const answer = await ask("/hand", { raised, lab: event.currentTarget.dataset.lab });
    if (!answer?.ok) notify(answer?.sentence ?? "The server does not answer; try again.", "error", 5000);
    await refresh();
  }

  async function handIn(context, lab) {
    await context.save();
    const answer = await ask("/hand-in", { lab });
    if (answer?.ok) notify(answer.sentence, "success", false);
    else notify(answer?.sentence ?? "The server does not answer; try again.", "error", false);
  }

  function button(text, click) {
    const node = document.createElement("button");
    node.className = "dltlab-classroom";
    node.textContent = text;
    node.addEventListener("click", click);
    return node;
  }

  app.docRegistry.addWidgetExtension("Notebook", {
    createNew(panel, context) {
      const lab = context.path.replace(/\.ipynb$/, "");
      if (!LAB.test(lab)) return undefined;
      const help = button("I need help", toggleHelp);
      help.dataset.lab = lab;
      help.title = "Raise your hand: the instructor sees it";
      const send = button("Hand in", () => handIn(context, lab));
      send.title = "Save this notebook and hand it in; you may hand it in again";
      buttons.add(help);
      panel.disposed.connect(() => buttons.delete(help));
      for (const node of [help, send]) {
        const widget = new Widget({ node: document.createElement("div") });
        widget.node.append(node);
        const name = `dltlab-${node.textContent}`;
        if (!panel.toolbar.insertBefore("spacer", name, widget)) panel.toolbar.addItem(name, widget);
      }
      refresh();
      return undefined;
    },
  });
  setInterval(refresh, POLL_MILLISECONDS);
  app.restored.then(refresh);
};
