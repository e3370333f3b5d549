/** The script of /docs: Swagger UI over the document of this hub. Runs in the browser, behind the deferred bundle. */
const { SwaggerUIBundle } = globalThis as unknown as { SwaggerUIBundle(options: Readonly<Record<string, unknown>>): unknown };

SwaggerUIBundle({
  url: 'openapi.json',
  dom_id: '#reference',
  deepLinking: true,
  // Groups stand in the document's order, the routes of each by name.
  operationsSorter: 'alpha',
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  // A token stays in the page's memory: what is stored in a browser is found there by others.
  persistAuthorization: false,
  // The validator is a stranger's server.
  validatorUrl: null,
});
