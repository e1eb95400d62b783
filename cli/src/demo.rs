pub struct DemoArgs;
